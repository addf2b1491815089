"""A rank on another host, as the pool of its leader sees it: like
`roles.leader.process.RankProcess`."""

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol

from roles.calls import body_of
from roles.nodes.crew import Member
from roles.nodes.messages import RankStarted, SignalRank, StartRank, ToRank
from transfer.codec import Message

START_S = 60.0  # for a node to start a process


class Way(Protocol):
    """To the node of a rank: `roles.nodes.hub.Hub`."""

    def member_of(self, rank: int) -> Member:
        """Raises OSError if that node is not there."""

    def order(self, member: Member, rank: int) -> StartRank: ...

    def send(self, member: Member, message: Message, data: bytes | None = None) -> None: ...


class RemoteRank:
    """The pool calls `start`, `send`, `signal` and `gone`; the hub tells what comes back. When its
    node is lost, the rank counts as dead: that node ends it before it joins again."""

    def __init__(
        self,
        rank: int,
        way: Way,
        on_frame: Callable[[int, bytes], None],
        on_death: Callable[[int], None],
    ) -> None:
        self.rank = rank
        self.pid = 0
        self.death: str | None = None
        self.host = ""
        self.life = 0
        self.member: Member | None = None
        self._way = way
        self._on_frame = on_frame
        self._on_death = on_death
        self._started: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()

    async def start(self, _command: object) -> None:
        """Has its node start it. Raises OSError."""
        member = self.member = self._way.member_of(self.rank)
        self.host = member.join.host
        order = self._way.order(member, self.rank)
        self.life = order.life
        self._started = asyncio.get_running_loop().create_future()
        self._way.send(member, order)
        try:
            await asyncio.wait_for(self._started, START_S)
        except TimeoutError:
            raise OSError(f"{member} does not start rank {self.rank}") from None

    def send(self, frame: bytes) -> None:
        if self.member is not None and self.death is None:
            order = ToRank(self.member.epoch, self.life, self.rank)
            self._way.send(self.member, order, body_of(frame))

    def signal(self, number: signal.Signals) -> None:
        if self.member is not None and self.death is None:
            order = SignalRank(self.member.epoch, self.life, self.rank, int(number))
            self._way.send(self.member, order)

    async def gone(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ what the hub hears

    def started(self, said: RankStarted) -> None:
        if self._started is None or self._started.done():
            return
        if said.error is not None:
            self._started.set_exception(OSError(f"{self.member}: {said.error}"))
            return
        self.pid = said.pid
        self._started.set_result(None)

    def hear(self, frame: bytes) -> None:
        if self.death is None:
            self._on_frame(self.rank, frame)

    def end(self, how: str) -> None:
        """The process has ended, or its node is lost."""
        if self.death is not None:
            return
        self.death = how
        self._gone.set()
        if self._started is not None and not self._started.done():
            self._started.set_exception(OSError(f"rank {self.rank} {how}"))
        elif self.pid:
            self._on_death(self.rank)
