"""The worker pool: N ranks that do everything together, behind one typed call."""

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from roles.calls import Call, Meanwhile, Reply, Shutdown, Value, frame, reply_decoder
from roles.leader.process import Rank, RankCommand, RankProcess
from transfer.codec import ProtocolError
from transfer.ends import By, PoolEnd, RankEnd
from transfer.results import PoolResult, RankError, RankResult

log = logging.getLogger(__name__)

Results = PoolResult[Value]
State = Literal["starting", "open", "closing", "closed", "failed"]

POLITE_S = 2.0  # for a rank to end because it was asked
TERM_S = 2.0  # … because of SIGTERM
KILL_S = 5.0  # … because of SIGKILL; longer only if the kernel itself is stuck


@dataclass(frozen=True)
class Death:
    """The first rank that was lost, and of what: "died of SIGKILL", "exited with code 1"."""

    rank: int
    pid: int
    how: str

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid}) {self.how}"


@dataclass
class _Pending:
    future: "asyncio.Future[Results]"
    timer: asyncio.TimerHandle
    began: float
    meanwhile: Callable[[Meanwhile], None] | None = None
    results: dict[int, RankResult[Value]] = field(default_factory=dict)


class WorkerPool:
    """The ranks of an instance, from their start to their end. Used from one event loop.

    `await start()`, then any number of `await call(…)`, also at the same time: ranks work on calls
    in the order in which they were made. A call never raises and never hangs: whatever happens, its
    `PoolResult` has a result for each rank. When a rank dies, every pending call is answered at
    once, `died` is set, and the pool is good for nothing but `close`; make another one.

    States: starting → open → closing → closed, or failed if even SIGKILL does not end a process. It
    is failed, too, from the death of a rank until it is closed. A call that waits, or comes, while
    it is not open fails at once with an error of the state's name: `PoolStarting`, `PoolClosing`,
    `PoolClosed`, `PoolFailed`.
    `late` counts replies that came after their call's deadline; they are dropped by the call's
    number, so they can never be taken for another call's.
    """

    def __init__(
        self, commands: Sequence[RankCommand], make: Callable[..., Rank] | None = None
    ) -> None:
        self.state: State = "starting"
        self.late = 0
        self.died: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self._commands = commands
        make = make or RankProcess
        self._ranks: list[Rank] = [
            make(rank, self._on_frame, self._on_death) for rank in range(len(commands))
        ]
        self._pending: dict[int, _Pending] = {}
        self._asked = False  # to end
        self._means: By = "itself"  # what ends a rank that ends now
        self._ends: dict[int, RankEnd] = {}
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        """Spawns every rank. Raises OSError, after ending those that did start."""
        try:
            for rank, command in zip(self._ranks, self._commands, strict=True):
                await rank.start(command)
        except BaseException:
            await self.kill()
            raise
        if self.state == "starting":
            self.state = "open"

    async def call(
        self,
        message: Call,
        seconds: float,
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> Results:
        """Sends a call to every rank and waits for every answer, at most so many seconds.
        `meanwhile` gets what a rank says of it before its answer, and does not raise."""
        if self.state != "open":
            return self._refusal()
        number = next(self._numbers)
        try:
            data = frame(msgspec.structs.replace(message, call=number))
        except ProtocolError as error:
            return self._refusal(RankError(kind="raised", type="TooLarge", message=str(error)))
        loop = asyncio.get_running_loop()
        pending = self._pending[number] = _Pending(
            future=loop.create_future(),
            timer=loop.call_later(seconds, self._expire, number, seconds),
            began=time.monotonic(),
            meanwhile=meanwhile,
        )
        for rank in self._ranks:
            rank.send(data)
        try:
            return await pending.future
        finally:
            pending.timer.cancel()
            self._pending.pop(number, None)

    def condemn(self, rank: int, how: str) -> None:
        """Gives the ranks up, because this one did something that only its end can mend."""
        self._fail(Death(rank, self._ranks[rank].pid, how))
        self._signal(signal.SIGKILL, "SIGKILL")

    async def close(self, polite_s: float = POLITE_S, term_s: float = TERM_S) -> PoolEnd:
        """Ends every rank: by request, then by SIGTERM, then by SIGKILL; says what each took.
        Pending calls fail at once. It takes `polite_s + term_s + KILL_S` at most."""
        began = time.monotonic()
        if self.state == "open":
            self._asked, self._means = True, "request"
            for rank in self._ranks:
                rank.send(frame(Shutdown()))
            self._closing()
            if not await self._all_gone(polite_s):
                self._signal(signal.SIGTERM, "SIGTERM")
                await self._all_gone(term_s)
        return msgspec.structs.replace(await self.kill(), seconds=time.monotonic() - began)

    async def kill(self) -> PoolEnd:
        """Ends every rank at once."""
        began = time.monotonic()
        self._closing()
        self._signal(signal.SIGKILL, "SIGKILL")
        if not await self._all_gone(KILL_S):
            stuck = [rank.pid for rank in self._ranks if rank.pid and rank.death is None]
            log.error("the kernel does not end the ranks with pids %s", stuck)
        end = PoolEnd(self._told(), self._asked, time.monotonic() - began)
        self.state = end.state
        return end

    @property
    def pids(self) -> list[int]:
        """By rank; 0 before the start."""
        return [rank.pid for rank in self._ranks]

    @property
    def hosts(self) -> list[str]:
        """By rank."""
        return [rank.host for rank in self._ranks]

    @property
    def dead(self) -> list[bool]:
        """By rank, whether its process has ended."""
        return [rank.death is not None for rank in self._ranks]

    # ------------------------------------------------------------ what the ranks bring

    def _on_frame(self, rank: int, data: bytes) -> None:
        try:
            reply = reply_decoder.decode(data)
        except ProtocolError as error:
            self.condemn(rank, f"sent an answer that cannot be read ({error})")
            return
        assert isinstance(reply, Reply | Meanwhile)
        pending = self._pending.get(reply.call)
        if isinstance(reply, Meanwhile):
            if pending is not None and pending.meanwhile is not None:
                pending.meanwhile(reply)
            return
        if pending is None or rank in pending.results:
            self.late += 1
            log.debug("a late answer of rank %d to call %d is dropped", rank, reply.call)
            return
        pending.results[rank] = RankResult(
            rank=rank,
            pid=self._ranks[rank].pid,
            ok=reply.ok,
            value=reply.value,
            error=reply.error,
            seconds=reply.seconds,
            host=self._ranks[rank].host,
        )
        if len(pending.results) == len(self._ranks):
            self._answer(reply.call)

    def _on_death(self, rank: int) -> None:
        process = self._ranks[rank]
        self._ends[rank] = RankEnd(rank, process.pid, self._means, process.death or "")
        if self.state not in ("closing", "closed"):
            self._fail(Death(rank, process.pid, process.death or "died"))

    def _expire(self, number: int, seconds: float) -> None:
        message = f"did not answer for {round(seconds, 3):g} s"
        self._answer(number, RankError(kind="silent", type="RankSilent", message=message))

    def _fail(self, death: Death) -> None:
        if not self.died.done():
            self.state = "failed"
            self.died.set_result(death)
        self._answer_all()

    def _closing(self) -> None:
        self.state = "closing"
        self._answer_all()

    # ------------------------------------------------------------ answers

    def _answer(self, number: int, missing: RankError | None = None) -> None:
        """Resolves a call; ranks without a result get `missing`."""
        pending = self._pending.pop(number)
        pending.timer.cancel()  # here, for it may be due in this very turn of the loop
        seconds = time.monotonic() - pending.began
        results = (
            pending.results.get(rank.rank) or self._missing(rank, missing, seconds)
            for rank in self._ranks
        )
        if not pending.future.done():
            pending.future.set_result(PoolResult(tuple(results)))

    def _answer_all(self) -> None:
        for number in list(self._pending):
            self._answer(number)

    def _refusal(self, error: RankError | None = None) -> Results:
        return PoolResult(tuple(self._missing(rank, error, 0.0) for rank in self._ranks))

    def _missing(self, rank: Rank, error: RankError | None, seconds: float) -> RankResult[Value]:
        return RankResult(
            rank=rank.rank,
            pid=rank.pid,
            ok=False,
            error=error or self._reason(rank),
            seconds=seconds,
            host=rank.host,
        )

    def _reason(self, rank: Rank) -> RankError:
        """Why a rank gives no answer although it is not late."""
        death = self.died.result() if self.died.done() else None
        if death is None:
            type = f"Pool{self.state.capitalize()}"
            return RankError("closed", type, f"gives no answer: its pool is {self.state}")
        if death.rank == rank.rank:
            return RankError("died", "RankDied", death.how)
        return RankError("closed", "PoolFailed", f"was given up: {death}")

    # ------------------------------------------------------------ the end

    def _signal(self, number: signal.Signals, means: By) -> None:
        self._means = means
        for rank in self._ranks:
            if rank.pid:
                rank.signal(number)

    async def _all_gone(self, seconds: float) -> bool:
        started = [rank.gone(seconds) for rank in self._ranks if rank.pid]
        return all(await asyncio.gather(*started))

    def _told(self) -> list[RankEnd]:
        """Of every rank that was started."""
        return [
            self._ends.get(rank.rank) or RankEnd(rank.rank, rank.pid, "nothing")
            for rank in self._ranks
            if rank.pid
        ]
