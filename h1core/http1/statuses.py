"""What follows from a status alone. RFC 9110 §15."""

from http import HTTPStatus
from typing import Final

PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {
    # RFC 9110's names, which the standard library has only since 3.13.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""The registered reason phrases."""

WITHOUT_CONTENT: Final = 204, 205, 304
"""Final statuses whose responses have no content, so that the length of a body does not frame them. Not a set: a status
of a wrong type may be looked for in it."""

NO_LENGTH: Final = frozenset({204, 205})
"""Those that have no Content-Length of a content either: a 204 has none, a 205 says 0 (§8.6, §15.3.6)."""
