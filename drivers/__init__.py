"""Servers on real I/O: the engine, and one driver for each kind of event loop that hosts it."""
