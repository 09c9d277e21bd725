"""Lists of options, such as the Connection field, in both directions. RFC 9110 §5.6.1, §7.6.1, §10.1.1."""

from itertools import repeat
from typing import Final

_WHITE_SPACE: Final = repeat(b" \t")

NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
"""The options of a message without the field."""


def options(value: bytes) -> frozenset[bytes]:
    """The options in the value of a Connection or Expect field, lower-case. Never raises.

    The caller joins several fields with commas. Empty members and white space around members are ignored, as RFC 9110
    §5.6.1 requires of a recipient; `close` counts at any position.
    """
    return frozenset(map(bytes.strip, value.lower().split(b","), _WHITE_SPACE)) - {b""}
