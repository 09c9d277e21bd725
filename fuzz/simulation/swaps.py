"""Putting something of ours where others look for theirs; `mock.patch` does it, too, and takes ten times as long."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

Swap: TypeAlias = tuple[object, str, object]
"""An owner, the name of its attribute, and what that is to be."""


@contextmanager
def swapped(*swaps: Swap) -> Iterator[None]:
    """For a while, let each owner's attribute of that name be that value."""
    old = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    for owner, name, value in swaps:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)
