"""How much one connection, or one flood, may do before the others have their turn.

The numbers trade fairness for calls that are spared. With them the longest turn is a few hundred microseconds of ours,
plus what the application takes. Both drivers go by them (CVE-2019-16770, CVE-2021-29509: one busy client starved all).
"""

from typing import Final

ACCEPTS_PER_TICK: Final = 8
"""Connections that are accepted from one listener before anything else is served. 64 took 5.6 ms under a storm; with 4
those that close after each request cost 6 % more, and nobody gains."""

DEADLINES_PER_TICK: Final = 8
"""Connections whose deadline has come that are dealt with in one tick, where nobody can say how many others had their
turn in it. All of a thousand at once took 8.7 ms."""

TURNS_PER_DEADLINE: Final = 8
"""Where that can be said: one deadline, and one more for so many turns. In a short tick a second one would be felt: a
request through workers had a p99 of 0.6 ms beside a thousand deadlines, with one of 0.4 ms. A long tick deals with as
many as do not make it much longer, or a busy server would be late with them."""

EVENTS_PER_TURN: Final = 64
"""Events of one connection, so as many pipelined requests; whoever pipelines more loses nothing but its lead."""

WRITES_PER_TURN: Final = 16
"""Writes to one connection: a megabyte of response, at what a socket takes at once."""

PIECES_PER_TURN: Final = 64
"""Pieces of a streamed body that are asked for in a row, for applications that yield little or nothing at a time."""
