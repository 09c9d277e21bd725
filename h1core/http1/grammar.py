"""The ABNF of HTTP/1.1 as compiled patterns, each under the production it implements.

Nothing else in h1core compiles a pattern. All of them work on bytes, so that no digit or letter outside ASCII can match
(CVE-2025-69224), and all are meant for `fullmatch` unless they say otherwise. Repetitions are possessive (`++`, `*+`)
wherever two neighbours could share a byte, so that none can be made to backtrack (CVE-2020-5236): every match is
linear.
"""

import re
from typing import Final


def _compile(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
    return re.compile(pattern, flags)


# RFC 9110 §5.6.2
#   token = 1*tchar
#   tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
_tchar: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_token: Final = _tchar + rb"++"
TOKEN: Final = _compile(_token)
TOKEN_BYTES: Final = bytes(byte for byte in range(256) if re.match(_tchar, bytes([byte])))

# RFC 9112 §2.2: "a server [...] SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
# What a head may begin with, for `match`: a token, or the first half of such a line.
EMPTY_LINES: Final = _compile(rb"(?:\r\n)*+")
HEAD_START: Final = _compile(rb"(?:" + _tchar + rb"|\r)")

# RFC 9112 §2.2: a bare CR is invalid; a bare LF may be accepted as a line end, but hops that differ on it can be
# attacked (request smuggling), so neither is accepted. For `search`; does not match a CR at the end of the data.
BARE_LINE_END: Final = _compile(rb"\r(?=[^\n])|(?<!\r)\n")

# RFC 9112 §2.3
#   HTTP-version = HTTP-name "/" DIGIT "." DIGIT
VERSION: Final = _compile(rb"HTTP/([0-9])\.([0-9])")

# RFC 9110 §5.5
#   field-value = *( field-vchar [ 1*( SP / HTAB / field-vchar ) field-vchar ] ), field-vchar = VCHAR / obs-text
# Given as the bytes that may stand in a value, for `translate`: one pass in C and half the time of a pattern.
FIELD_VALUE_BYTES: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))

# RFC 9112 §5
#   field-line = field-name ":" OWS field-value OWS
# The start of one, with the CR LF before it, for `split`: between two matches is a value and white space after it.
FIELD_START: Final = _compile(rb"\r\n(" + _token + rb"):[ \t]*+")

# RFC 3986 §2.3, §2.2, §2.1
_unreserved: Final = rb"A-Za-z0-9\-._~"
_sub_delims: Final = rb"!$&'()*+,;="
_pct_encoded: Final = rb"%[0-9A-Fa-f]{2}"

# RFC 3986 §3.2.2
#   IPv4address = dec-octet "." dec-octet "." dec-octet "." dec-octet
#   IPv6address = (nine alternatives by the place of "::")
_dec_octet: Final = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ipv4: Final = _dec_octet + rb"(?:\." + _dec_octet + rb"){3}"
_h16: Final = rb"[0-9A-Fa-f]{1,4}"
_ls32: Final = rb"(?:" + _h16 + rb":" + _h16 + rb"|" + _ipv4 + rb")"


def _ipv6() -> bytes:
    colon = _h16 + rb":"
    rows = [rb"(?:%b){6}%b" % (colon, _ls32)]
    for left in range(8):
        before = rb"" if left == 0 else rb"(?:(?:%b){0,%d}%b)?" % (colon, left - 1, _h16)
        right = 5 - left
        after = rb"(?:%b){%d}%b" % (colon, right, _ls32) if right >= 0 else (_h16 if right == -1 else rb"")
        rows.append(before + rb"::" + after)
    return rb"(?:" + rb"|".join(rows) + rb")"


#   IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
#   IP-literal = "[" ( IPv6address / IPvFuture ) "]"
#   reg-name = *( unreserved / pct-encoded / sub-delims )         (an IPv4address is one, too)
_ip_future: Final = rb"[vV][0-9A-Fa-f]+\.[" + _unreserved + _sub_delims + rb":]+"
_ip_literal: Final = rb"\[(?:" + _ipv6() + rb"|" + _ip_future + rb")\]"
# Stricter than RFC 3986 in one way: a comma is no part of a name, because it is how a hop joins two Host lines.
_reg_name: Final = rb"(?:[" + _unreserved + _sub_delims.replace(b",", b"") + rb"]|" + _pct_encoded + rb")*+"
_host: Final = rb"(?:" + _ip_literal + rb"|" + _reg_name + rb")"

# RFC 9110 §7.2
#   Host = uri-host [ ":" port ], port = *DIGIT
# Groups: the host; the port without leading zeros, or nothing. The caller must check that five digits are <= 65535.
HOST: Final = _compile(rb"(" + _host + rb")(?::0*+([0-9]{0,5}))?")
# The bytes of nearly every host without a port, which is a reg-name then; for `translate`, in a tenth of the time.
PLAIN_HOST_BYTES: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-"

# RFC 9112 §3.2.1, §3.2.2, §3.2.4
#   origin-form    = absolute-path [ "?" query ]
#   absolute-form  = absolute-URI, here: http or https, an authority, a path or nothing
#   asterisk-form  = "*"
# Looser than RFC 3986 in one way: [ ] { } | \ ^ ` and a bare % pass, because browsers send them as typed (WHATWG URL).
# They do not affect framing; the application gets them unchanged. A fragment, quotes and angle brackets do not pass.
_path_bytes: Final = rb"[!$%&'()*+,\-./0-9:;=?@A-Z\[\\\]^_`a-z{|}~]*+"
ORIGIN_FORM: Final = _compile(rb"/" + _path_bytes)
# RFC 9112 §3
#   request-line = method SP request-target SP HTTP-version
# The usual form, for `match` at the start of a head: origin-form, HTTP/1.0 or 1.1. Groups: method, target, version.
ORDINARY_LINE: Final = _compile(rb"(" + _token + rb") (/" + _path_bytes + rb") HTTP/(1\.[01])")
ABSOLUTE_FORM: Final = _compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*+)((?:[/?]" + _path_bytes + rb")?)")

# RFC 9112 §3.2.3
#   authority-form = uri-host ":" port
AUTHORITY_FORM: Final = _compile(_host + rb":[0-9]{1,5}")

# RFC 9110 §8.6
#   Content-Length = 1*DIGIT
DIGITS: Final = _compile(rb"[0-9]++")

# RFC 9112 §7.1: chunk-size = 1*HEXDIG. Sixteen digits are 64 bits; RFC 9112 §7.1 asks to guard against more.
MAX_CHUNK_SIZE_DIGITS: Final = 16
CHUNK_SIZE: Final = _compile(rb"[0-9A-Fa-f]{1,%d}" % MAX_CHUNK_SIZE_DIGITS)

# RFC 9112 §7.1
#   chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
# The first line of a chunk without extensions, for `match`.
CHUNK_START: Final = _compile(rb"([0-9A-Fa-f]{1,%d}+)\r\n" % MAX_CHUNK_SIZE_DIGITS)

# RFC 9112 §7.1.1
#   chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), chunk-ext-val = token / quoted-string
# RFC 9110 §5.6.4
#   quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
_quoted: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_extension: Final = rb"[ \t]*+;[ \t]*+" + _token + rb"(?:[ \t]*+=[ \t]*+(?:" + _token + rb"|" + _quoted + rb"))?+"
CHUNK_EXTENSIONS: Final = _compile(rb"(?:" + _extension + rb")++")
