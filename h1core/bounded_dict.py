"""Tables of what came before, bounded, because a peer or an application may say what goes into them."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(table: dict[K, V], most: int, key: K, value: V) -> None:
    """Put something into a table of at most `most` entries. A full one is emptied first: what is asked for comes again.

    Never raises.
    """
    if len(table) >= most:
        table.clear()
    table[key] = value
