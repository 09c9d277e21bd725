"""Faults that happen by themselves, while the storm lasts: to accepting, to the clock, to the server's life."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

ACCEPT_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR, errno.EPROTO)


def brew(world: World) -> None:
    """Arrange for what goes wrong at some instant of the storm."""
    dice, faults, storm_s = world.dice.network, world.faults, world.swarm.storm_s
    if "accept_errors" in faults:
        for _ in range(1 + dice.below(6)):
            world.after(dice.random() * storm_s, lambda: _fail_accepting(world))
    if "clock_jumps" in faults:
        for _ in range(1 + dice.below(4)):
            world.after(dice.random() * storm_s, lambda: _jump(world))


def _fail_accepting(world: World) -> None:
    if not world.is_calm and not world.listener.is_closed:
        number = world.dice.network.pick(ACCEPT_ERRORS)
        world.trace.note(-1, "world", "accept fails", errno.errorcode[number])
        world.listener.fail(OSError(number, "accepting fails"))
        world.wake_listener()


def _jump(world: World) -> None:
    if not world.is_calm:
        seconds = world.dice.network.duration(world.dice.network.pick((0.5, 40.0, 200.0)))
        world.trace.note(-1, "world", "clock jumps", seconds)
        world.lose(seconds)
