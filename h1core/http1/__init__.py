"""One connection of HTTP/1.1: bytes and the time in; events, bytes and a deadline out (RFC 9110, RFC 9112)."""
