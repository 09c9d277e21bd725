"""Why h1core and its peers come to different verdicts: one row for each reason, in the order of docs/verdicts.md.

A row speaks for the cases that h1core refuses with one of `refusals`, and for those in `cases`, written `case` or
`peer:case`. What names a case wins over what names a refusal, and what names a peer over both. A reason speaks of what
h1core holds and, as far as the verdicts show it, of what the others do; it is no judgement on their users' needs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    title: str
    text: str
    refusals: str = ""
    cases: str = ""


REASONS = [
    Reason(
        "Line ends",
        "Only CR LF ends a line. RFC 9112 §2.2 lets a recipient take a bare LF, and has it refuse or replace a "
        "bare CR; two hops that differ on either see two different requests.",
        refusals="BARE_LF BARE_CR",
        cases="httptools:leading_bare_lf",
    ),
    Reason(
        "Where a message ends",
        "Content-Length beside Transfer-Encoding, twice, or as a list: RFC 9112 §6.3 and RFC 9110 §8.6 let a "
        "recipient repair these; all of them have been used to smuggle requests, and h1core repairs nothing. Who "
        "lets the coding win waits for its end or takes the rest for a request.",
        refusals="LENGTH_AND_CODING DUPLICATE_CONTENT_LENGTH BAD_CONTENT_LENGTH",
    ),
    Reason(
        "Transfer codings",
        "h1core knows `chunked`, alone, in HTTP/1.1. RFC 9112 §6.1 asks for 501 when a coding is not known, and "
        "calls the framing of HTTP/1.0 with one faulty; others look for `chunked` at the end of the list, or hand "
        "the question on to their server.",
        refusals="UNKNOWN_TRANSFER_CODING BAD_TRANSFER_ENCODING DUPLICATE_TRANSFER_ENCODING CODING_IN_HTTP_1_0",
        cases="gunicorn_h1c:content_length_and_unknown_coding",
    ),
    Reason(
        "Chunk lines",
        "A chunk size is 1 to 16 hexadecimal digits, and an extension follows the grammar of RFC 9112 §7.1.1. "
        "Extensions mean nothing to anyone, so others skip them unread; but what is skipped by one hop is read by "
        "another (CVE-2025-22871, CVE-2025-55315).",
        refusals="BAD_CHUNK_SIZE BAD_CHUNK_EXTENSION",
    ),
    Reason(
        "Blanks in chunk lines",
        "The other way round: RFC 9112 §7.1.1 has a recipient take and drop blanks around the `;` and `=` of an "
        "extension. No other takes one in front of the `;`, and httptools takes none.",
        cases="chunk_extension_bws",
    ),
    Reason(
        "Trailers",
        "Trailer fields keep the grammar of fields, and none may say what only a head can (RFC 9110 §6.5.1: "
        "framing, routing, authentication, conditions). Others check less of them, or leave it to whoever reads "
        "them.",
        refusals="BAD_TRAILER FORBIDDEN_TRAILER",
    ),
    Reason(
        "Field lines",
        "No control byte in a value, and no folded lines. RFC 9110 §5.5 calls the former invalid, and lets a "
        "recipient keep them where that is safe; RFC 9112 §5.2 has a server refuse or unfold the latter. h11 "
        "keeps, and unfolds.",
        refusals="BAD_FIELD_VALUE FOLDED_FIELD",
    ),
    Reason(
        "Fields that stand once",
        "A second Authorization, Content-Type, Range and the like is refused: two recipients could each take "
        "another one (CVE-2026-34525). To a parser they are fields like others.",
        refusals="DUPLICATE_FIELD",
    ),
    Reason(
        "Host",
        "Exactly one, in HTTP/1.1, and it is a host with an optional port (RFC 9112 §3.2: MUST be 400 otherwise). "
        "No other looks into the value; some leave its absence or number to their server.",
        refusals="BAD_HOST MISSING_HOST DUPLICATE_HOST",
    ),
    Reason(
        "Request targets",
        "A target is in one of four forms, and the form fits the method (RFC 9112 §3.2). Others hand on what "
        "stands between the two spaces, or check its bytes alone.",
        refusals="BAD_TARGET TARGET_DOES_NOT_FIT",
    ),
    Reason(
        "Tunnels",
        "A `Conn` that was not told to open tunnels refuses CONNECT with 501, and one with a body always. Others "
        "report it; their server decides.",
        refusals="CONNECT_REFUSED CONNECT_WITH_BODY",
    ),
    Reason(
        "Expectations",
        "An expectation other than 100-continue gets 417 (RFC 9110 §10.1.1). Others leave the field to their server.",
        refusals="UNKNOWN_EXPECTATION",
    ),
    Reason(
        "The request line",
        "Method, target and `HTTP/1.` with one digit, between single spaces (RFC 9112 §3). httptools also reads "
        "HTTP/0.9, HTTP/2.0 and RTSP, with gunicorn_h1c two spaces; h11 takes `HTTP/2.0`, and is stopped by what "
        "follows.",
        refusals="BAD_REQUEST_LINE BAD_VERSION UNSUPPORTED_VERSION",
    ),
    Reason(
        "Bytes that are no request",
        "h1core refuses at the first byte that cannot begin a request. Who waits for the end of a line, or of a "
        "head, leaves a peer that never sends one to a deadline.",
        refusals="NOT_HTTP",
    ),
    Reason(
        "Limits of size and number",
        "Bodies, heads, fields, methods, extensions and trailers: h1core has a limit for each (config.py), on "
        "complete messages too. Others have other limits, some of them only for what is incomplete, or none.",
        refusals="HEAD_TOO_LARGE REQUEST_LINE_TOO_LONG METHOD_TOO_LONG TOO_MANY_FIELDS BODY_TOO_LARGE "
        "CHUNK_EXTENSION_TOO_LARGE TRAILERS_TOO_LARGE TOO_MANY_TRAILERS",
        cases="gunicorn_h1c:head_16384 gunicorn_h1c:request_line_8192",
    ),
    Reason(
        "The end of the stream",
        "A message that is cut off is refused, and nothing of it is taken for whole (RFC 9112 §8). httptools has "
        "no call for the end of a stream, and that of gunicorn_h1c says nothing: their servers know that a "
        "message is not complete.",
        refusals="TRUNCATED_HEAD TRUNCATED_BODY",
    ),
    Reason(
        "Methods",
        "A method is any token (RFC 9110 §9.1). httptools knows a list; gunicorn_h1c takes what looks usual, "
        "unless it is told otherwise.",
        cases="method_32_bytes method_lower_case method_odd_token method_unknown",
    ),
    Reason(
        "Later minor versions",
        "RFC 9110 §6.2: a higher minor version is read as the highest that one knows. Those who refuse know 1.0 "
        "and 1.1.",
        cases="version_1_2 version_1_9_chunked",
    ),
    Reason(
        "Empty lines between requests",
        "RFC 9112 §2.2 has a server ignore at least one before a request line; old clients send them behind bodies.",
        cases="leading_empty_line leading_empty_lines empty_line_behind_body trailing_empty_line",
    ),
    Reason(
        "Leading zeros in Content-Length",
        "RFC 9110 §8.6: any number of digits. h1core counts those that mean something; h11 takes 20 at most.",
        cases="content_length_leading_zeros content_length_5000_zeros",
    ),
    Reason(
        "Tabs around a coding",
        "RFC 9112 §5: white space around a value is blanks and tabs. httptools takes a tab behind `chunked` for "
        "part of it.",
        cases="ows_tabs",
    ),
    Reason(
        "Whether the connection persists",
        "`close` counts wherever it stands in Connection (RFC 9112 §9.3), and Proxy-Connection means nothing "
        "(§C.2.2). httptools reads the latter as the former, and lets `keep-alive` win in HTTP/1.0.",
        cases="get_1_0_keep_alive_and_close get_1_0_proxy_connection",
    ),
    Reason(
        "Offers of another protocol",
        "An Upgrade that nobody was told to take is passed over (RFC 9110 §7.8), and the next request is read. "
        "httptools stops, and leaves what follows to its server.",
        cases="upgrade_websocket",
    ),
]


def reasons_for(peer: str, case: str, refusal: str) -> list[Reason]:
    """The rows that speak for a difference: those that name it most closely."""
    for name in (f"{peer}:{case}", case):
        if found := [reason for reason in REASONS if name in reason.cases.split()]:
            return found
    return [reason for reason in REASONS if refusal in reason.refusals.split()]
