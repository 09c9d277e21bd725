"""What each kind of client does. A script is a generator that yields how long it waits (peers.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .peers import GIVE_UP_S, News, Peer, Script
from .wire import Maker, Sent

if TYPE_CHECKING:
    from .world import World


class Scripts:
    """The scripts of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = world.dice.clients
        self.swarm = world.swarm
        self.make = Maker(world.dice.clients, world.swarm.limits)

    def named(self, kind: str) -> Callable[[Peer], Script]:
        script: Callable[[Peer], Script] = getattr(self, kind)
        return script

    # Requests

    def one(self, peer: Peer, kind: str | None = None, sent: Sent | None = None) -> Sent:
        """A request, and what the application will do with it."""
        sent = sent or self.make.request()
        self.world.apps.plan(sent, peer.lane, kind)
        return sent

    def many(self, peer: Peer) -> list[Sent]:
        return [self.one(peer) for _ in range(1 + self.dice.below(self.swarm.requests))]

    def with_body(
        self, peer: Peer, size: int, framing: str = "", *, expects: bool = False, kind: str | None = None
    ) -> Sent:
        number = len(self.make.made)
        body = (b"{%d}" % number * size)[:size]
        return self.one(peer, kind, self.make.request(b"POST", body, framing=framing, expects=expects))

    @property
    def body_bytes(self) -> int:
        return min(self.swarm.limits.max_body_bytes, self.dice.pick((1, 20, 700, 3000, 15_000)))

    # Clients that mean well

    def keep_alive(self, peer: Peer) -> Script:
        for _ in range(1 + self.dice.below(self.swarm.requests)):
            yield from peer.send(self.one(peer))
            yield from peer.await_responses(len(peer.sent))
            if peer.sees_end:
                return
            yield from peer.pause()
        yield from peer.leave()

    def pipeliner(self, peer: Peer) -> Script:
        yield from peer.send(*self.many(peer))
        yield from peer.pause()
        yield from peer.send(*self.many(peer))
        yield from peer.await_responses(len(peer.sent))
        yield from peer.leave()

    def flood(self, peer: Peer) -> Script:
        """More pipelined requests than are served in one turn."""
        count = self.dice.pick((10, 70, 140)) if self.swarm.requests > 4 else 10
        requests = [self.one(peer, "plain", self.make.request(b"GET", closes=False)) for _ in range(count)]
        yield from peer.send(*requests)
        yield from peer.await_responses(len(peer.sent))
        yield from peer.leave()

    def http10(self, peer: Peer) -> Script:
        for _ in range(1 + self.dice.below(self.swarm.requests)):
            closes = self.dice.chance(0.5)
            yield from peer.send(self.one(peer, None, self.make.request(version=b"1.0", closes=closes)))
            yield from peer.await_responses(len(peer.sent))
            if peer.sees_end:
                return
        yield from peer.leave()

    def expect_waiter(self, peer: Peer) -> Script:
        """Waits for 100 Continue; not for ever, if it is of the other sort."""
        yield from peer.pause()
        sent = self.with_body(peer, self.body_bytes, expects=True)
        peer.begin(sent)
        yield from peer.send_bytes(sent.wire[: sent.head_bytes])
        patience_s = GIVE_UP_S if self.dice.chance(0.7) else self.dice.duration(self.swarm.longest_s)
        until = self.world.clock.now + patience_s
        while not (peer.reader.continues or peer.reader.complete or peer.sees_end):
            if self.world.clock.now >= until:
                break
            yield News(until - self.world.clock.now)
            peer.take()
        if not peer.reader.complete:
            yield from peer.send_bytes(sent.wire[sent.head_bytes :])
        yield from peer.await_responses(1)
        yield from peer.leave()

    def half_closer(self, peer: Peer) -> Script:
        """Closes its side behind its requests, at once or while it waits: then it has left."""
        yield from peer.send(*(self.many(peer) if self.dice.chance(0.5) else [self.one(peer)]))
        yield from peer.pause()
        peer.end()
        yield from peer.await_end()

    def upgrader(self, peer: Peer) -> Script:
        """Asks for another protocol, which nobody offers, and speaks it at once."""
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        if self.dice.chance(0.5):
            sent = self.make.request(b"GET", extra=fields, closes=False)
            yield from peer.send(self.one(peer, "plain", sent), self.make.junk(b"\x81\x05hello", 400))
        else:
            sent = self.make.request(b"GET", extra=fields, closes=False)
            yield from peer.send(self.one(peer, "plain", sent), self.one(peer))
        yield from peer.await_end(5.0)
        yield from peer.leave()

    def talker(self, peer: Peer) -> Script:
        """Sends a body and reads what comes of it at once, through little room."""
        step = self.dice.pick((10, 400, 4000))
        for _ in range(1 + self.dice.below(min(self.swarm.requests, 4))):
            kind = self.dice.pick(self.world.apps.both_ways) if self.dice.chance(0.8) else None
            size = max(self.body_bytes, self.body_bytes)  # drawn twice: long ones more often
            sent = self.with_body(peer, size, kind=kind)
            peer.client.widen(self.dice.pick((50, 4000, 1 << 20)))
            peer.begin(sent)
            step = max(step, len(sent.wire) // 60)
            for at in range(0, len(sent.wire), step):
                if peer.sees_end:
                    return
                peer.put(sent.wire[at : at + step])
                peer.take()
                if not self.dice.below(8):
                    yield from peer.pause()
                else:
                    yield self.dice.random() / 256
            peer.client.widen(1 << 20)  # or a long response would come in very many steps
            yield from peer.await_responses(len(peer.sent))
        yield from peer.leave()

    # Clients that are slow

    def dripper(self, peer: Peer) -> Script:
        """Sends a byte now and then: in the head, the body, a chunk extension or the trailers."""
        sent = self.with_body(peer, self.dice.pick((1, 5, 30)), self.dice.pick(("length", "chunked")))
        peer.begin(sent)
        wire = sent.wire
        begin = self.dice.below(len(wire))
        end = min(len(wire), begin + self.dice.pick((1, 10, 40)))
        yield from peer.send_bytes(wire[:begin])
        for at in range(begin, end):
            if peer.sees_end:
                return
            peer.put(wire[at : at + 1])
            yield from peer.pause(self.swarm.longest_s / 4)
        yield from peer.send_bytes(wire[end:])
        yield from peer.await_responses(1)
        yield from peer.leave()

    def never_reader(self, peer: Peer) -> Script:
        peer.client.widen(self.dice.pick((0, 1, 100, 4000)))
        for sent in self.many(peer):
            yield from peer.send(sent)
            yield from peer.pause()

    def slow_reader(self, peer: Peer) -> Script:
        peer.client.widen(self.dice.pick((1, 50, 4000)))
        step = self.dice.pick((1, 40, 3000))
        yield from peer.send(*self.many(peer))
        count = len(peer.sent)
        for turn in range(400):
            if peer.reader.complete >= count or peer.sees_end:
                break
            peer.take(step if turn < 60 and not self.world.is_calm else None)
            if turn == 60:
                peer.client.widen(1 << 20)
            yield News(self.dice.duration(self.swarm.longest_s / 8) + 0.001)
        peer.client.widen(1 << 20)
        yield from peer.leave()

    def idle_holder(self, peer: Peer) -> Script:
        """Holds a connection, and says little or nothing."""
        if self.dice.chance(0.5):
            yield from peer.send(self.one(peer, "plain", self.make.request(b"GET", closes=False)))
        for _ in range(self.dice.below(4)):
            yield from peer.pause()
            peer.put(self.dice.pick((b"\r\n", b"\r\n\r\n")))
        yield from peer.await_end()
        yield from peer.pause(1.0)
        peer.end()

    # Clients that break things

    def resetter(self, peer: Peer) -> Script:
        requests = self.many(peer)
        for sent in requests:
            peer.begin(sent)
        wire = b"".join(sent.wire for sent in requests)
        if self.dice.chance(0.5):
            yield from peer.send_bytes(wire[: self.dice.below(len(wire) + 1)])
        else:
            peer.client.widen(1 + self.dice.below(300))
            yield from peer.send_bytes(wire)
            yield News(1.0)
            peer.take(self.dice.below(200))
        yield from peer.pause()
        peer.reset()

    def come_and_go(self, peer: Peer) -> Script:
        if self.dice.chance(0.5):
            yield from peer.pause(0.01)
        peer.end() if self.dice.chance(0.5) else peer.reset()
        yield from peer.await_end()

    def long_body(self, peer: Peer) -> Script:
        """More body than was declared, which is no request."""
        sent = self.with_body(peer, self.body_bytes, "length")
        yield from peer.send(sent, self.make.junk(b"\x00 and more", 400))
        yield from peer.await_end()
        yield from peer.leave()

    def short_body(self, peer: Peer) -> Script:
        """Less body than was declared."""
        sent = self.with_body(peer, 1 + self.body_bytes // 2, self.dice.pick(("length", "chunked")))
        peer.begin(sent)
        yield from peer.send_bytes(sent.wire[: sent.head_bytes + self.dice.below(len(sent.wire) - sent.head_bytes)])
        if self.dice.chance(0.5):
            yield from peer.pause()
            peer.end()
        yield from peer.await_end()

    def garbage(self, peer: Peer) -> Script:
        """Something invalid, alone or behind what is valid."""
        requests = self.many(peer) if self.dice.chance(0.5) else []
        broken = self.make.broken()
        if broken.begins:
            self.world.apps.plan(broken, peer.lane)
        yield from peer.send(*requests, broken)
        yield from peer.await_end(self.dice.pick((GIVE_UP_S, 1.0)))
        yield from peer.leave()

    def oversize(self, peer: Peer) -> Script:
        requests = self.many(peer) if self.dice.chance(0.3) else []
        large = self.make.oversize()
        if large.begins:
            self.world.apps.plan(large, peer.lane)
        yield from peer.send(*requests, large)
        yield from peer.await_end()
        yield from peer.leave()

    def tls_hello(self, peer: Peer) -> Script:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(100))
        yield from peer.send(self.make.junk(hello, 400))
        yield from peer.await_end()

    def stubborn_sender(self, peer: Peer) -> Script:
        """Is refused for the length that it declares, and sends everything all the same before it reads."""
        number = len(self.make.made)
        length = self.swarm.limits.max_body_bytes + 1 + self.dice.below(3000)
        head = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, length)
        junk = self.make.junk(head + b"s" * length, 413)
        junk.head_bytes = len(head)
        peer.begin(junk)
        peer.put(head)
        for at in range(0, length, 4096):
            yield from peer.pause(0.01)
            peer.put(b"s" * min(4096, length - at))
        yield from peer.await_end()
        peer.end()
