"""An engine among doubles: ranks, transport and media that do what a test tells them to.

What is said to the orchestrator lands in `said`; `await room.hear(Type)` takes it out.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from roles.calls import (
    Begin,
    Call,
    Collect,
    Drop,
    Key,
    Marked,
    Meanwhile,
    MediaFile,
    Outcome,
    Outcomes,
    Pause,
    Peek,
    Run,
    StepDone,
    Store,
    Stored,
    Value,
)
from roles.leader.engine import Engine
from roles.leader.outbox import SENDERS, OutboxLine, outboxes
from roles.leader.pool import Death
from roles.leader.scheduler import Scheduler
from roles.leader.turns import Schedule
from tests.support.batching import Eager
from tests.support.scripted_orchestrator import work
from transfer.codec import Message
from transfer.errors import TransferFailed
from transfer.header import write_header
from transfer.made import ImageMade
from transfer.messages import (
    CacheReport,
    Delivery,
    ErrorInfo,
    Grant,
    Media,
    Role,
    Work,
)
from transfer.pool import SlotPool
from transfer.results import PoolResult, RankError, RankResult

M = TypeVar("M", bound=Message)
SLOT_BYTES = 4096
CAPACITY: dict[Role, int] = {"encoder": 2, "denoiser": 3, "decoder": 3, "monolithic": 3}


class FakeRanks:
    """`ranks` ranks that take no time, unless `hold` names what they shall wait at.

    A denoiser takes `steps` steps; a payload has `nbytes`. `errors`: what a rank says of a request
    at its next unit. `hold`: "begin", "encode", "step", "decode", "store", "collect" or "drop":
    such calls, but for the first `skip` of them, wait until `go` is set. `done` tells the calls in
    the order of their ends. `amid`: so many steps of a turn are told before it ends. `writes`: an
    encoder takes `steps` steps too, of which the first is its encode.
    """

    def __init__(self, ranks: int = 1) -> None:
        self.pids = [1000 + rank for rank in range(ranks)]
        self.died: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self.steps = 3
        self.writes = False
        self.nbytes = 1000
        self.amid = 0
        self.step_s = 0.0  # of compute, that each step reports
        self.why_not: str | None = None  # no checkpoint can be made
        self.lost: dict[int, tuple[int, int]] = {}  # step → what the ranks say that it was
        self.batch_key: str | None = None  # of every request's next forward
        self.branches = 1  # of every request's next step
        self.encodings: CacheReport | None = None  # of an encode
        self.bad_files: ErrorInfo | None = None  # why files cannot be made
        self.errors: dict[tuple[int, str], ErrorInfo] = {}
        self.broken: RankError | None = None  # of the last rank, for every call
        self.hold: str | None = None
        self.skip = 0
        self.go = asyncio.Event()
        self.held = asyncio.Event()
        self.done: list[str] = []
        self.holding: set[Key] = set()
        self.condemned: list[tuple[int, str]] = []
        self._roles: dict[Key, Role] = {}
        self._at: dict[Key, int] = {}

    async def call(
        self,
        message: Call,
        seconds: float,
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> PoolResult:
        what, who = _name(message)
        if isinstance(message, Run) and meanwhile is not None:
            for _ in range(self.amid):
                meanwhile(self._stepped(message))
        if what == self.hold and self.skip:
            self.skip -= 1
        elif what == self.hold:
            self.held.set()
            await asyncio.wait(
                [asyncio.ensure_future(self.go.wait()), self.died],
                return_when=asyncio.FIRST_COMPLETED,
            )
        if self.step_s:
            for _ in range(9):  # steps take time, in which others have their turn
                await asyncio.sleep(0)
        self.done.append(f"{what} {who}".strip())
        if self.died.done():
            return self._all(None, RankError("died", "RankDied", self.died.result().how))
        values = [self._value(message, rank) for rank in range(len(self.pids))]
        results = [RankResult(rank, self.pids[rank], True, v) for rank, v in enumerate(values)]
        if self.broken is not None:
            results[-1] = RankResult(len(values) - 1, self.pids[-1], False, None, self.broken)
        return PoolResult(tuple(results))

    def condemn(self, rank: int, how: str) -> None:
        self.condemned.append((rank, how))
        self.die(how, rank)

    def die(self, how: str = "died of SIGKILL", rank: int = 0) -> None:
        if not self.died.done():
            self.died.set_result(Death(rank, self.pids[rank], how))

    def _stepped(self, run: Run) -> Meanwhile:
        keys = [key for group in run.groups for key in group if key in self._at]
        for key in keys:
            self._at[key] += 1
        return Meanwhile(run.call, [StepDone(*key, self._at[key], self.steps) for key in keys])

    def _all(self, value: Value, error: RankError) -> PoolResult:
        pids = enumerate(self.pids)
        return PoolResult(tuple(RankResult(rank, pid, False, value, error) for rank, pid in pids))

    def _value(self, message: Call, rank: int) -> Value:
        match message:
            case Begin(request, attempt, role):
                self.holding.add((request, attempt))
                self._roles[request, attempt], self._at[request, attempt] = role, 0
                return Outcomes([self._outcome((request, attempt), rank, "begin")])
            case Peek(request, attempt, of, of_attempt):
                return Outcomes([self._peeked((request, attempt), (of, of_attempt))])
            case Run(unit, groups):
                keys = [key for group in groups for key in group]
                told = [self._outcome(key, rank, unit) for key in keys]
                return Outcomes([self._marked(o) if _key(o) in message.marked else o for o in told])
            case Store(checkpoint=True):
                return Stored(4712 if rank == 0 else None)
            case Store(request, attempt):
                self.holding.discard((request, attempt))
                return Stored(4711 if rank == 0 else None)
            case Collect(request, attempt):
                return Outcomes([self._files((request, attempt), rank)])
            case Drop(request, attempt):
                self.holding.discard((request, attempt))
        return None

    def _files(self, key: Key, rank: int) -> Outcome:
        if self.bad_files is not None:
            return Outcome(*key, error=self.bad_files)
        return Outcome(*key, done=True, media=[MediaFile(9, ImageMade(), "image/png", 5)])

    def _peeked(self, key: Key, of: Key) -> Outcome:
        if of not in self.holding or not self._at[of]:
            return Outcome(*key, error=ErrorInfo("unsupported", "there is nothing to see"))
        self.holding.add(key)
        nbytes = None if self._roles[of] == "monolithic" else self.nbytes
        return Outcome(*key, done=True, nbytes=nbytes, compute_s=0.001)

    def _outcome(self, key: Key, rank: int, unit: str) -> Outcome:
        error = self.errors.get((rank, key[0]))
        if error is not None:
            return Outcome(*key, error=error)
        if unit == "begin":
            return replace(self._waiting(key, 0), read_s=0.001)
        if unit == "encode" and self.writes:
            self._at[key] = 1
            return self._waiting(key, 1)
        if unit == "encode":
            told = Outcome(*key, done=True, nbytes=self.nbytes, compute_s=0.001)
            return replace(told, encodings=self.encodings)
        if unit == "decode":
            return Outcome(*key, done=True)
        self._at[key] += rank == len(self.pids) - 1
        step = self._at[key] + (rank < len(self.pids) - 1)
        done = step == self.steps
        if not done:
            return self._waiting(key, step)
        step, steps = self.lost.get(step, (step, self.steps))
        nbytes = None if self._roles[key] == "monolithic" else self.nbytes
        told = Outcome(*key, done=True, step=step, steps=steps, nbytes=nbytes)
        return replace(told, compute_s=self.step_s)

    def _waiting(self, key: Key, step: int) -> Outcome:
        step, steps = self.lost.get(step, (step, self.steps))
        told = Outcome(*key, step=step, steps=steps, batch_key=self.batch_key)
        return replace(told, branches=self.branches, compute_s=self.step_s)

    def _marked(self, outcome: Outcome) -> Outcome:
        """A checkpoint of the step that has just ended, unless it was the last."""
        marked = Marked(outcome.step, 300, self.why_not)
        return outcome if outcome.done else replace(outcome, checkpoint=marked)


def _key(outcome: Outcome) -> Key:
    return outcome.request, outcome.attempt


def _name(message: Call) -> tuple[str, str]:
    match message:
        case Pause():
            return "pause", ""
        case Run(unit, groups):
            return unit, "+".join(name for name, _ in groups[0])
        case Store(request, checkpoint=True):
            return "checkpoint", request
        case Begin(request) | Peek(request) | Store(request) | Collect(request) | Drop(request):
            return type(message).__name__.lower(), request
    raise AssertionError(message)


class FakeSender:
    """`failures` are raised first, one for each write; `go` holds writes back, cancelled ones too:
    `Transport.send` ends when nothing is written any more."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[int], int, Grant]] = []
        self.failures: list[Exception] = []
        self.go = asyncio.Event()
        self.go.set()
        self.writing = asyncio.Event()

    async def send(
        self, slots: Sequence[int], nbytes: int, grant: Grant, received_at: float
    ) -> None:
        self.writing.set()
        cancelled = False
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            cancelled = True
            await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        if cancelled:
            raise asyncio.CancelledError
        self.sent.append((list(slots), nbytes, grant))


class FakePublisher:
    def __init__(self) -> None:
        self.discarded: list[Media] = []
        self.failure: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.publishing = asyncio.Event()

    async def publish(self, pid: int, files: list[MediaFile]) -> list[Media]:
        self.publishing.set()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return [Media(f"{pid}-{file.fd}", file.made, file.mime, file.nbytes) for file in files]

    def discard(self, media: list[Media]) -> None:
        self.discarded += media


class EngineRoom:
    """The engine called "box", of every role. Two requests denoise at a time; four outbox slots
    for each role that sends, of which `outbox` is the encoder's."""

    def __init__(
        self,
        ranks: int = 1,
        capacity: dict[Role, int] = CAPACITY,
        checkpoint_s: float = 0.0,
        schedule: Schedule = "round_robin",
    ) -> None:
        self.pool = SlotPool.create(4, SLOT_BYTES, 8)
        self._outboxes = outboxes(self.pool, SENDERS)
        self.outbox = self._outboxes["encoder"]
        self.line = OutboxLine(self._outboxes)
        self.ranks = FakeRanks(ranks)
        self.sender = FakeSender()
        self.publisher = FakePublisher()
        self.said: list[Message] = []
        self.lost: list[str] = []
        self._news = asyncio.Event()
        self.scheduler = Scheduler(2, Eager(), schedule)
        self.engine = Engine(
            "box",
            capacity,
            self.scheduler,
            self.pool,
            self.line,
            self.sender,
            self.publisher,
            self._say,
            self.lost.append,
            checkpoint_s=checkpoint_s,
        )
        self._slots = itertools.cycle(range(4))
        self._generations = iter(range(100, 1000))

    async def __aenter__(self) -> "EngineRoom":
        self.engine.door.attach(self.ranks)
        self._loop = asyncio.create_task(self.engine.run())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._loop.cancel()
        await asyncio.wait([self._loop])
        if kind is None:
            assert self._loop.cancelled(), self._loop.exception()
        self.pool.close()

    def accept(self, work: Work) -> None:
        self.engine.accept(work, 5)

    async def hear(self, kind: type[M], fits: Callable[[M], bool] = lambda _: True) -> M:
        async with asyncio.timeout(10):
            while True:
                for message in self.said:
                    if isinstance(message, kind) and fits(message):
                        self.said.remove(message)
                        return message
                self._news.clear()
                await self._news.wait()

    async def at_home(self) -> None:
        """Waits until nothing is in flight, and checks that everything has come home."""
        async with asyncio.timeout(10):
            await self.engine.idle.wait()
            while self.ranks.holding:  # the last Drop may still be on its way
                await asyncio.sleep(0)
        self.line.release_all()
        assert [outbox.free_slots for outbox in self._outboxes.values()] == [4, 4]
        assert len(self.scheduler) == 0

    def free(self, role: Role) -> int:
        """Free slots of a role's outbox."""
        return self._outboxes[role].free_slots

    def grant(self, request: str, slots: int = 1, seconds: float = 60.0) -> Grant:
        address = self.pool.address()
        generation = next(self._generations)
        return Grant(request, 1, generation, "next", 1, list(range(slots)), seconds, address)

    def delivered(self, request: str) -> Delivery:
        """A payload in our slots, as its sender and the orchestrator describe it."""
        slot = next(self._slots)
        delivery = Delivery(next(self._generations), [slot], 500, 99)
        (view,) = self.pool.segments([slot])
        write_header(view, request, 1, delivery.generation, 500, 99)
        return delivery

    def work(self, request: str, role: Role, grant: Grant | None = None) -> Work:
        """Work for a role, with a payload in the slots where the role has one."""
        delivery = self.delivered(request) if role in ("denoiser", "decoder") else None
        return work(request, role, delivery=delivery, grant=grant)

    def look(self, of: str, grant: Grant | None = None) -> Work:
        """A preview of what is being denoised here."""
        grant = grant or self.grant(f"{of}~1")
        return replace(work(f"{of}~1", "denoiser", grant=grant), preview_of=(of, 1))

    def look_at_whole(self, of: str) -> Work:
        """The same, of a pipeline that runs whole."""
        return replace(work(f"{of}~1", "monolithic"), preview_of=(of, 1))

    def _say(self, message: Message) -> None:
        self.said.append(message)
        self._news.set()


def failure(may_land: bool) -> TransferFailed:
    return TransferFailed("the wire broke", may_land=may_land)
