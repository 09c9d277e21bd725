"""How much one connection, or one burst of them, may do before the others are served.

Smaller numbers are fairer, larger ones cost fewer calls. With these the longest turn takes a few hundred microseconds,
plus the application's time. Every driver uses them (CVE-2019-16770, CVE-2021-29509: one busy client starved all).
"""

from typing import Final

ACCEPTS_PER_TICK: Final = 8
"""Connections that are accepted from one listener before anything else is served. 64 took 5.6 ms in a burst; with 4,
connections that close after each request cost 6 % more, without a gain."""

DEADLINES_PER_TICK: Final = 8
"""Connections whose deadline has come that are handled in one tick, when it is not known how many others were served in
it. All of a thousand at once took 8.7 ms."""

TURNS_PER_DEADLINE: Final = 8
"""When that is known: one deadline, and one more for each so many turns. In a short tick more than one is noticeable:
beside a thousand deadlines a request through workers had a p99 of 0.6 ms, with one 0.4 ms. A long tick handles more, as
many as do not make it much longer, or a busy server would be late with them."""

READS_PER_DEADLINE: Final = 16
"""Reads of a connection whose deadline has come, while each fills its buffer: reads grow to a megabyte, so this is more
than a kernel keeps for a socket. A peer that sends without end is not saved by it."""

EVENTS_PER_TURN: Final = 64
"""Events of one connection, so as many pipelined requests; further ones wait for the connection's next turn."""

WRITES_PER_TURN: Final = 16
"""Writes to one connection: a megabyte of response, if a socket takes 64 KiB at once."""

PIECES_PER_TURN: Final = 64
"""Pieces of a streamed body that are asked for in a row, for applications that yield little or nothing at a time."""
