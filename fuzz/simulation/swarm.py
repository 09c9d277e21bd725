"""What one run is like: which clients, applications and faults there are, how often, and under which limits."""

from dataclasses import dataclass

from h1core.config import Limits, Timeouts

from .dice import Dice

PEERS = (
    "keep_alive pipeliner dripper never_reader slow_reader half_closer resetter idle_holder expect_waiter long_body "
    "short_body garbage tls_hello upgrader oversize http10 flood come_and_go stubborn_sender talker"
).split()

APPS = (
    "plain echo late large ignores_body raises raises_at_first_piece raises_midway stream empty_pieces for_ever "
    "short_stream long_stream wrong_length bad_headers bad_status body_for_204 not_modified asks_to_close no_response "
    "text_body text_piece closing_fails declared_stream reused_buffer vandal exits known_length_iterable"
).split()

FAULTS = (
    "cuts stalls short_reads short_writes spurious_ready interrupted resets half_closes accept_errors clock_jumps "
    "late_timers early_timers pauses broken_calls full_queue"
).split()

KIB = 1024


@dataclass(slots=True)
class Swarm:
    """Drawn once for a run."""

    peers: list[str]
    apps: list[str]
    faults: dict[str, float]
    """Those that are on, and how likely each is when it could happen."""
    connections: int
    requests: int
    """How many one client sends at most."""
    storm_s: float
    """How long there are faults."""
    longest_s: float
    """How long a client or a handler stalls at most."""
    threads: int
    ends: str
    """`settle`, or in the middle of everything: `drain` or `stop`."""
    limits: Limits
    timeouts: Timeouts

    @property
    def bound_s(self) -> float:
        """After so long without faults, everything is over or idle: one after another, where there is room for few."""
        t = self.timeouts
        body_s = self.limits.max_body_bytes / t.min_body_rate
        # A connection may go through each of them once more, and a queue of requests may have to be worked off.
        rounds = -(-self.connections // self.limits.max_connections)
        # With workers, a request may wait for one whose client takes nothing, and then have such a client itself.
        write_s = t.write_timeout * (2 if self.threads else 1)
        return rounds * (
            t.head_timeout + t.body_timeout + min(body_s, 600) + t.keepalive_timeout + write_s
            + 2 * t.linger_timeout + t.queue_timeout + 20
        )  # fmt: skip


def draw_swarm(dice: Dice) -> Swarm:
    rates = (0.01, 0.05, 0.3)
    faults = {fault: dice.pick(rates) for fault in FAULTS if dice.chance(0.35)}
    return Swarm(
        peers=dice.some(PEERS, dice.pick((0.15, 0.4, 1.0))),
        apps=[*dice.some(APPS, dice.pick((0.15, 0.5, 1.0))), "plain"],
        faults=faults,
        connections=dice.pick((1, 2, 4, 8, 12)),
        requests=dice.pick((1, 4, 10, 30)),
        storm_s=dice.pick((0.05, 1.0, 10.0, 60.0, 200.0)),
        longest_s=dice.pick((0.001, 1.0, 12.0, 90.0)),
        threads=dice.pick((0, 0, 1, 2, 4)),
        ends=dice.pick(("settle", "settle", "settle", "settle", "drain", "drain", "stop")),
        limits=draw_limits(dice, tight="full_queue" in faults),
        timeouts=draw_timeouts(dice),
    )


def draw_limits(dice: Dice, tight: bool) -> Limits:
    """Small ones: what is at a limit is where the mistakes are."""
    head = dice.pick((512, 2 * KIB, 16 * KIB))
    initial = dice.pick((64, 512, 16 * KIB))
    return Limits(
        max_request_line_bytes=dice.pick((200, head)),
        max_head_bytes=head,
        max_fields=dice.pick((12, 30)),
        max_chunk_extension_bytes=dice.pick((16, 256)),
        max_chunk_extensions_bytes=dice.pick((24, 512)),
        max_trailer_bytes=dice.pick((64, 512)),
        max_trailer_fields=dice.pick((2, 16)),
        max_body_bytes=dice.pick((1000, 20_000)),
        initial_buffer_bytes=initial,
        max_buffer_bytes=max(head, initial, dice.pick((1 * KIB, 64 * KIB))),
        max_unread_body_bytes=dice.pick((100, 10_000)),
        max_linger_bytes=dice.pick((1 * KIB, 128 * KIB)),
        max_output_bytes=dice.pick((1, 1 * KIB, 64 * KIB)),
        max_memory_body_bytes=dice.pick((16 * KIB, 16 * KIB, 16 * KIB, 300)),
        max_spooled_response_bytes=dice.pick((1, 2 * KIB, 64 * KIB, 64 * KIB)),
        max_requests_per_connection=dice.pick((1, 2, 5, 20, 1000, 1000, 1000)),
        max_connections=dice.pick((1, 2, 5, 1000, 1000)),
        max_queued_requests=1 if tight else dice.pick((2, 500)),
    )


def draw_timeouts(dice: Dice) -> Timeouts:
    """Those of a server, or short ones, which meet more of everything else."""
    if dice.chance(0.3):
        return Timeouts()
    return Timeouts(
        head_timeout=dice.pick((0.5, 10.0)),
        body_timeout=dice.pick((0.5, 8.0)),
        min_body_rate=(rate := dice.pick((64.0, 1024.0))),
        keepalive_timeout=dice.pick((0.25, 5.0, 75.0)),
        write_timeout=dice.pick((0.5, 30.0)),
        min_write_rate=rate,
        queue_timeout=dice.pick((0.125, 2.0, 10.0)),
        linger_timeout=dice.pick((0.125, 2.0)),
        stream_drain_timeout=dice.pick((0.125, 1.0, 5.0)),
        drain_timeout=dice.pick((0.25, 4.0, 30.0)),
    )
