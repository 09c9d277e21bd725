"""Lists of options, such as the Connection field, in both directions. RFC 9110 §5.6.1, §7.6.1, §10.1.1."""

from itertools import repeat
from typing import Final

_WHITE_SPACE: Final = repeat(b" \t")

NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
"""What a message without the field says."""


def options(value: bytes) -> frozenset[bytes]:
    """The options in the value of a Connection or Expect field, lower-case. Never raises.

    Several fields are joined with commas by the caller. Empty members and odd white space are passed over, as RFC 9110
    §5.6.1 asks of a recipient; `close` counts at any place.
    """
    return frozenset(map(bytes.strip, value.lower().split(b","), _WHITE_SPACE)) - {b""}
