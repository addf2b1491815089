"""Scripted instances on a real control channel: no ranks, no tensors, no memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import zmq
import zmq.asyncio

from tests.support.bench import PICTURE, register
from transfer.codec import encode
from transfer.keys import cluster_keys
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Delivered,
    Finished,
    Heartbeat,
    Push,
    RegisterAgain,
    Role,
    Staged,
    StageReport,
    Welcome,
    Work,
    from_orchestrator,
)

DEADLINE_S = 10.0
REPORT = StageReport(compute_s=0.001)


class Dealer:
    """Registers, beats, and does all work at once; with `idle` set it keeps what it was given.

    `heard` has every message; `until` waits for one.
    """

    def __init__(self, endpoint: str, name: str, *roles: Role, **changes: Any) -> None:
        self.name = name
        self.idle = False
        self.picture = PICTURE
        self.epoch = 0
        self.heard: list[Any] = []
        self._changes = changes
        self._roles = roles
        self._news = asyncio.Condition()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        cluster_keys().of_client(self._socket)
        self._socket.connect(endpoint)

    async def say(self, message: Any) -> None:
        await self._socket.send(encode(message))

    async def until(self, kind: type, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first message of that kind that fits, from the beginning of time."""

        def found() -> list[Any]:
            return [m for m in self.heard if isinstance(m, kind) and fits(m)]

        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(found)
        return found()[0]

    async def run(self) -> None:
        await self._register()
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                message = from_orchestrator.decode(await self._socket.recv())
                await self._answer(message)
                async with self._news:
                    self.heard.append(message)
                    self._news.notify_all()
        finally:
            beating.cancel()
            await asyncio.wait([beating])
            self._socket.close()
            self._context.term()

    async def _register(self) -> None:
        info = register(self.name, *self._roles, last_epoch=self.epoch, **self._changes)
        await self.say(info)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if self.epoch:
                await self.say(Heartbeat(self.epoch))

    async def _answer(self, message: Any) -> None:
        match message:
            case Welcome(epoch=epoch):
                self.epoch = epoch
            case RegisterAgain():
                await self._register()
            case Work() if not self.idle:
                await self.work(message)
            case Push():
                generation = message.grant.generation
                about = (self.epoch, message.request, message.attempt, self._roles[0])
                await self.say(Delivered(*about, generation, 10, 1, REPORT))
            case Abort():
                await self.say(Aborted(self.epoch, message.request, message.attempt))

    async def work(self, work: Work) -> None:
        """Does at once what it was given."""
        about = (self.epoch, work.request, work.attempt, work.role)
        if work.delivery is not None:
            await self.say(Accepted(*about, work.delivery.generation))
        if work.last:
            await self.say(Finished(*about, [self.picture], REPORT))
        elif work.grant is not None:
            await self.say(Delivered(*about, work.grant.generation, 10, 1, REPORT))
        else:
            await self.say(Staged(*about, 10, None, REPORT))


@contextlib.asynccontextmanager
async def dealers(endpoint: str, *roles: Role, **changes: Any) -> AsyncIterator[list[Dealer]]:
    """One registered instance of each role, called encoder-0 and so on."""
    made = [Dealer(endpoint, f"{role}-0", role, **changes) for role in roles]
    async with playing(made):
        yield made


@contextlib.asynccontextmanager
async def playing(made: Sequence[Dealer]) -> AsyncIterator[None]:
    """They are registered, and play their parts while the block runs."""
    tasks = [asyncio.create_task(dealer.run()) for dealer in made]
    try:
        for dealer in made:
            await dealer.until(Welcome)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
