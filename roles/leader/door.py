"""The engine's way to its ranks, which may be there, or being restarted."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from roles.calls import (
    Act,
    Begin,
    Call,
    Collect,
    Drop,
    Key,
    Meanwhile,
    Outcome,
    Outcomes,
    Pause,
    Peek,
    Run,
    Store,
    Stored,
)
from roles.leader.attempt import Attempt, AttemptFailed
from roles.leader.pool import Death, Results
from roles.leader.scheduler import Plan
from roles.options import RANK_TIMEOUT_S
from transfer.actions import Health
from transfer.messages import ErrorInfo
from transfer.results import ECHO


class Pool(Protocol):
    """`roles.leader.pool.WorkerPool`, as far as it is needed here."""

    @property
    def died(self) -> "asyncio.Future[Death]": ...

    @property
    def pids(self) -> list[int]: ...

    async def call(
        self,
        message: Call,
        seconds: float,
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> Results: ...

    def condemn(self, rank: int, how: str) -> None: ...


class Door:
    """What attempts ask of the ranks, in their own terms. One for the instance's life.

    The keeper `attach`es a pool when its ranks have loaded the model. When that pool is lost, to a
    death or because a rank stays silent for `unit_s` seconds, `on_lost` is called once, at once,
    and the door is shut until the next `attach`. `proved_at`: when all ranks last showed that they
    compute, on the event loop's clock.
    """

    def __init__(self, on_lost: Callable[[Death], None], unit_s: float = RANK_TIMEOUT_S) -> None:
        self.open = asyncio.Event()
        self.proved_at = 0.0
        self._on_lost = on_lost
        self._unit_s = unit_s
        self._pool: Pool | None = None
        self._asides: set[asyncio.Task[Results]] = set()
        self._pausing: asyncio.Task[Results] | None = None

    def attach(self, pool: Pool) -> None:
        """These ranks are ready."""
        self._pool = pool
        self.proved_at = asyncio.get_running_loop().time()
        self.open.set()
        pool.died.add_done_callback(lambda died: self._lose(pool, died.result()))

    def shut(self) -> None:
        """No call goes through any more; nobody is told."""
        self._pool = None
        self.open.clear()

    @property
    def first_pid(self) -> int:
        """The rank that writes payloads and files; 0 if the door is shut."""
        return self._pool.pids[0] if self._pool else 0

    async def run(
        self,
        plan: Plan,
        attempts: list[Attempt],
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> list[Outcome]:
        """Has the ranks do one unit: an outcome for each attempt; none if they are lost.
        `meanwhile` gets the steps of a unit that takes several, as they are done."""
        if plan.unit != "begin":
            marked = [attempt.key for attempt in attempts if attempt.marked]
            run = Run(plan.unit, plan.groups, share=plan.share, marked=marked)
            return outcomes(attempts, await self._call(run, meanwhile))
        return [outcome for attempt in attempts for outcome in await self._begin(attempt)]

    async def _begin(self, attempt: Attempt) -> list[Outcome]:
        attempt.in_ranks = True
        work = attempt.work
        call = Begin(
            *attempt.key,
            role=work.role,
            inputs=work.inputs,
            delivery=work.delivery,
            previews=work.previews,
            files=attempt.files,
        )
        return outcomes([attempt], await self._call(call))

    async def peek(self, attempt: Attempt, of: Key) -> Outcome:
        """Has the ranks make a payload of what they denoise, after the step that they are in.

        Raises `AttemptFailed`, `Stopped`; and if the ranks are lost, what the engine says of that.
        """
        attempt.in_ranks = True
        peek = self._aside(Peek(*attempt.key, of=of[0], of_attempt=of[1]))
        found = outcomes([attempt], await attempt.wait(peek))
        if not found:
            raise AttemptFailed(ErrorInfo("rank_died", "the ranks were lost"))
        if found[0].error is not None:
            raise AttemptFailed(found[0].error)
        return found[0]

    async def store(self, attempt: Attempt) -> int:
        """Has the payload written into `attempt.slots`, after which the ranks have forgotten it.

        Returns its checksum. If the attempt is interrupted, the ranks write nevertheless, before
        they do anything else; so whoever gets these slots next writes after them.
        """
        result = await attempt.wait(self._aside(Store(*attempt.key, slots=attempt.slots)))
        attempt.check()
        if not result.ok:
            raise AttemptFailed(_rank_failed(result))
        attempt.in_ranks = False
        assert isinstance(result.first.value, Stored)
        assert result.first.value.checksum is not None
        return result.first.value.checksum

    async def store_checkpoint(self, attempt: Attempt, slots: list[int]) -> int | None:
        """Has the latest checkpoint written into these slots; its checksum, or None if there is
        none any more. Returns when nothing of it is being written."""
        result = await self._aside(Store(*attempt.key, slots=slots, checkpoint=True))
        if not result.results or not result.ok:
            return None
        assert isinstance(result.first.value, Stored)
        return result.first.value.checksum

    async def collect(self, attempt: Attempt) -> Outcome:
        """The finished files of an attempt, when they are there; the ranks do other things
        meanwhile. The outcome may be an error."""
        attempt.finishing = True
        result = await attempt.wait(self._aside(Collect(*attempt.key)))
        attempt.check()
        (outcome,) = outcomes([attempt], result)
        return outcome

    async def ask(self, call: Call, seconds: float) -> Results | None:
        """What every rank makes of an operator's call; None: there are no ranks now. Those that
        stay silent for so long are not given up: what they are at has a limit of its own."""
        return await self._pool.call(call, seconds) if self._pool is not None else None

    async def prove(self) -> Results:
        """Has all ranks test themselves; one that stays silent is given up, as amid a unit."""
        return await self._call(Act(Health()))

    def condemn(self, rank: int, how: str) -> None:
        """Gives the ranks up, because this one did something that only its end can mend."""
        if self._pool is not None:
            self._pool.condemn(rank, how)

    def pause(self) -> None:
        """Has the ranks end their unit with the step that they are in."""
        if self._pausing is None or self._pausing.done():
            self._pausing = self._aside(Pause())

    def drop(self, attempt: Attempt) -> "asyncio.Future[Results]":
        """Has the ranks forget the attempt; done when they have."""
        if attempt.in_ranks:
            attempt.in_ranks = False
            return self._aside(Drop(*attempt.key))
        nothing: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        nothing.set_result(Results(()))
        return nothing

    def _aside(self, call: Call) -> "asyncio.Task[Results]":
        """A call that goes on even when nobody waits for it any more."""
        task = asyncio.get_running_loop().create_task(self._call(call))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)
        return task

    async def _call(
        self, call: Call, meanwhile: Callable[[Meanwhile], None] | None = None
    ) -> Results:
        pool = self._pool
        if pool is None:
            return Results(())
        result = await pool.call(call, self._unit_s, meanwhile)
        if result.ok and isinstance(call, Run | Act):
            self.proved_at = asyncio.get_running_loop().time()
        if result.lost:
            self._give_up(pool, result)
        return result

    def _give_up(self, pool: Pool, result: Results) -> None:
        worst = result.failures[0]
        assert worst.error is not None
        if worst.error.kind == "silent":
            pool.condemn(worst.rank, worst.error.message)
        if pool.died.done():
            self._lose(pool, pool.died.result())
        else:  # it is being closed
            self._lose(pool, Death(worst.rank, worst.pid, worst.error.message))

    def _lose(self, pool: Pool, death: Death) -> None:
        if self._pool is pool:
            self.shut()
            self._on_lost(death)


def outcomes(attempts: list[Attempt], result: Results) -> list[Outcome]:
    """What a call did to each attempt, all ranks taken together: it succeeded if every rank did."""
    if result.lost or not result.results:
        return []
    return [_outcome(index, attempt, result) for index, attempt in enumerate(attempts)]


def _outcome(index: int, attempt: Attempt, result: Results) -> Outcome:
    if not result.ok:
        return Outcome(*attempt.key, error=_rank_failed(result))
    every = [
        (each.rank, each.value.outcomes[index])
        for each in result.results
        if isinstance(each.value, Outcomes)
    ]
    failed = [(outcome.error, outcome, rank) for rank, outcome in every if outcome.error]
    if not failed:
        return every[0][1]
    own = [each for each in failed if not each[0].message.startswith(f"{ECHO}: ")]
    error, outcome, rank = (own or failed)[0]
    return _with_rank(outcome, error, rank)


def _with_rank(outcome: Outcome, error: ErrorInfo, rank: int) -> Outcome:
    return replace(outcome, error=replace(error, rank=rank))


def _rank_failed(result: Results) -> ErrorInfo:
    """A call failed as a whole, in at least one rank."""
    worst = result.failures[0]
    assert worst.error is not None
    return ErrorInfo("rank_failed", str(worst), rank=worst.rank, traceback=worst.error.traceback)
