"""What happens in a run: who comes when, the storm and the calm, the end; and what must hold after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import faults
from .invariants import Invariant, Violation, violated
from .judge import Judge
from .peers import Peer, Script
from .trace import WORLD
from .watched import WatchedConn

if TYPE_CHECKING:
    from .world import World

PROMPT_S = 1.0
"""How long a fresh client waits at most for an answer from a server that has nothing else to do."""


class Story:
    """Arranges everything in the agenda of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def arrange(self) -> None:
        swarm, dice = self.world.swarm, self.world.dice.clients
        for _ in range(swarm.connections):
            kind = dice.pick(swarm.peers)
            at_s = 0.0 if dice.chance(0.3) else dice.random() * swarm.storm_s * 0.7
            self.world.after(at_s, lambda kind=kind: self._arrive(kind))  # type: ignore[misc]  # mypy infers no default's type
        faults.brew(self.world)
        if swarm.ends == "settle":
            self.world.after(swarm.storm_s, self._calm_down)
        elif swarm.ends == "drain":
            self.world.after(dice.random() * swarm.storm_s, self._drain)
            self.world.after(swarm.storm_s, self._calm_down)
        else:
            self.world.after(dice.random() * swarm.storm_s, self._stop)

    def _arrive(self, kind: str, among: list[Peer] | None = None) -> None:
        window = self.world.dice.network.pick((200, 4000, *[1 << 20] * 6))
        lane = len(self.world.peers)
        try:
            client = self.world.listener.connect(window)
        except ConnectionRefusedError:
            self.world.trace.note(WORLD, "client", f"{kind} is refused")
            return
        peer = Peer(self.world, lane, kind, client)
        self.world.peers.append(peer)
        if among is not None:
            among.append(peer)
        self.world.trace.note(lane, "client", "connects", kind)
        self.world.wake_listener()
        script: Script = self._fresh(peer) if kind == "fresh" else self.world.scripts.named(kind)(peer)
        peer.start(script)

    def _calm_down(self) -> None:
        self.world.trace.note(WORLD, "world", "the storm is over")
        self.world.is_calm = self.world.apps.calm = True
        self.world.faults.clear()
        for peer in self.world.peers:
            peer.hear()
        if self.world.swarm.ends == "settle":
            self.world.after(self.world.swarm.bound_s + 3 * self.world.swarm.longest_s, self._see_settled)

    def _drain(self) -> None:
        self.world.trace.note(WORLD, "world", "begins to drain")
        self.world.drain_at = min(self.world.drain_at, self.world.clock.now)
        self.world.lost_s = 0.0
        self.world.driver.begin_drain()

    def _stop(self) -> None:
        self.world.trace.note(WORLD, "world", "stops")
        self.world.was_stopped = True
        self.world.driver.stop()

    # The calm

    def _see_settled(self) -> None:
        for conn in self.world.driver.core._connections:
            assert isinstance(conn, WatchedConn)
            if not conn.is_idle:
                violated(Invariant.SETTLES, f"after the calm a connection is still {conn.clocks()}", conn.lane)
        if self.world.driver.core.backlog.outstanding:
            violated(Invariant.SETTLES, f"{self.world.driver.core.backlog.outstanding} requests are still with workers")
        self._see_running(Invariant.SETTLES)
        timeouts = self.world.swarm.timeouts
        has_room = self.world.driver.core._admission.open_connections + 3 <= self.world.swarm.limits.max_connections
        fresh: list[Peer] = []
        for number in range(
            min(3, self.world.swarm.limits.max_connections)
        ):  # one after the other: queues may be short
            self.world.after(number / 8, lambda: self._arrive("fresh", fresh))
        wait_s = PROMPT_S if has_room else 3 * (timeouts.keepalive_timeout + timeouts.linger_timeout + PROMPT_S)
        vain = self.world.vain_wakes
        self.world.after(wait_s, lambda: self._see_fresh(fresh, vain))

    def _see_running(self, invariant: Invariant) -> None:
        """No application is at work when nothing is left for it to do."""
        for plan in self.world.apps.running.values():
            violated(invariant, f"the application of {plan.number} ({plan.kind}) is still at work", plan.lane)

    def _fresh(self, peer: Peer) -> Script:
        """A client that does everything right."""
        yield from peer.send(
            self.world.scripts.one(peer, "plain", self.world.scripts.make.request(b"GET", closes=False))
        )
        yield from peer.await_end()
        peer.end()

    def _see_fresh(self, fresh: list[Peer], vain: int) -> None:
        if any(peer.reader.complete != 1 or peer.reader.responses[0].status != 200 for peer in fresh):
            violated(Invariant.SETTLES, "a fresh client has no answer from a server at rest", fresh[-1].lane)
        if self.world.dice.swarm.chance(0.5):
            self._drain()
            return
        timeouts = self.world.swarm.timeouts
        rest_s = timeouts.keepalive_timeout + timeouts.linger_timeout + timeouts.head_timeout + 1
        self.world.after(rest_s, lambda: self._see_rest(vain))

    def _see_rest(self, vain: int) -> None:
        """Nobody has said anything for so long that nobody is left."""
        left = list(self.world.driver.core._connections)
        if left:
            violated(Invariant.SETTLES, f"{len(left)} connections outlive their deadlines")
        if self.world.vain_wakes - vain > 8:
            violated(Invariant.NO_VAIN_WAKE, f"{self.world.vain_wakes - vain} wake-ups of an idle server for nothing")
        self._drain()

    def finish(self) -> None:
        """The server has ended."""
        self.world.trace.note(WORLD, "world", "the server has ended")
        took_s = self.world.ended_at - self.world.drain_at
        if took_s > self.world.swarm.timeouts.drain_timeout + self.world.lost_s + 0.001 and not self.world.was_stopped:
            violated(Invariant.DRAINS, f"the drain took {took_s} s")
        if self.world.driver.core._connections or self.world.open_sockets:
            violated(Invariant.DRAINS, f"{self.world.open_sockets} connections are left")
        if not self.world.listener.is_closed:
            violated(Invariant.DRAINS, "the listener is left open")
        self._see_running(Invariant.DRAINS)
        self.world.driver.see_end()
        if Violation.first is not None:
            raise Violation.first
        self.world.see_bug(WORLD)
        for peer in self.world.peers:
            Judge(self.world, peer).judge()
        self.world.apps.see_closed()
