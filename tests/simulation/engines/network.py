"""The control channel without sockets: links that are slow, break, and lose what was on its way."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from tests.simulation.engines.clock import LIFE

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process
    from tests.simulation.engines.world import World


class Link:
    """One connection, in both directions, each of which keeps its order.

    `closed[way]`: nothing gets through that way for now; it waits, like in a TCP connection whose
    packets are lost. `identity` is what the orchestrator's socket knows it by. `end` loses it, with
    what is on its way.
    """

    UP, DOWN = 0, 1

    def __init__(self, world: "World", process: "Process") -> None:
        self.world = world
        self.process = process
        self.identity = world.network.new_identity(self)
        self.slowness = world.dice.choice([0.0005, 0.002, 0.02])
        self.closed = [False, False]
        self.open = True
        self.inbox: deque[bytes] = deque()
        self.reader: asyncio.Future[None] | None = None
        self._queues: list[deque[tuple[float, bytes]]] = [deque(), deque()]
        self._latest = [0.0, 0.0]

    def carry(self, way: int, frame: bytes) -> None:
        if not self.open:
            return
        loop = self.world.loop
        delay = self.world.dice.random() * self.slowness
        at = self._latest[way] = max(self._latest[way], loop.now + delay)
        self._queues[way].append((at, frame))
        loop.call_at(at, self.deliver, way, context=self.world.nobody)

    def deliver(self, way: int) -> None:
        """What is due by now, if it gets through."""
        queue = self._queues[way]
        while queue and self.open and self._passes(way) and queue[0][0] <= self.world.loop.now:
            _, frame = queue.popleft()
            self._hand_over(way, frame)

    def heal(self) -> None:
        self.closed = [False, False]
        self.deliver(self.UP)
        self.deliver(self.DOWN)

    def end(self) -> None:
        self.open = False
        self.world.network.forget(self)
        for queue in self._queues:
            queue.clear()

    def again(self) -> "Link":
        """The same socket, connected anew by ZeroMQ: the orchestrator takes it for another peer."""
        self.end()
        link = Link(self.world, self.process)
        link.inbox, link.reader = self.inbox, self.reader
        return link

    def _passes(self, way: int) -> bool:
        return not self.closed[way] and (way == self.DOWN or self.world.orchestrator is not None)

    def _hand_over(self, way: int, frame: bytes) -> None:
        if way == self.UP:
            self.world.hear(self.identity, frame)
            return
        self.inbox.append(frame)
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)


class Network:
    """Which links there are, as the orchestrator's socket sees them."""

    def __init__(self) -> None:
        self.links: dict[bytes, Link] = {}
        self._count = 0

    def new_identity(self, link: Link) -> bytes:
        self._count += 1
        identity = b"c%d" % self._count
        self.links[identity] = link
        return identity

    def forget(self, link: Link) -> None:
        self.links.pop(link.identity, None)


class Dealer:
    """`roles.leader.dealer.Dealer`, for a leader of the simulation: the one in whose life it is
    made."""

    def __init__(self, endpoint: str, keys: object) -> None:
        life = LIFE.get()
        assert life is not None
        self._process = cast("Process", life.process)
        self._process.dealer = self
        self.link: Link | None = None

    @property
    def connected(self) -> bool:
        return self.link is not None

    def connect(self) -> None:
        if self.link is not None:
            self.link.end()
        self.link = Link(self._process.world, self._process)

    def reconnect(self) -> None:
        """The connection broke, and ZeroMQ has made another one without a word."""
        if self.link is not None:
            self.link = self.link.again()

    async def send(self, frame: bytes) -> None:
        assert self.link is not None
        self.link.carry(Link.UP, frame)

    async def receive(self) -> list[bytes]:
        assert self.link is not None
        while not self.link.inbox:
            self.link.reader = asyncio.get_running_loop().create_future()
            await self.link.reader
        return [self.link.inbox.popleft()]

    def refusal(self) -> str | None:
        return None

    def welcomed(self) -> None:
        """Nobody looks at the doorstep here."""

    async def close(self, linger_ms: int) -> None:
        """What was said goes out."""
        if self.link is not None:
            await asyncio.sleep(self.link.slowness)
            self.link.end()
            self.link = None
