"""The engine of an instance: schedule → execute → update, and a coroutine for each attempt."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from msgspec.structs import replace

from roles.calls import Key, Meanwhile, Outcome, Unit
from roles.leader.attempt import Attempt, AttemptFailed, Stopped
from roles.leader.checkpoints import Checkpoints
from roles.leader.door import Door
from roles.leader.given import GivenFiles
from roles.leader.handover import Handover, Publisher, Sender, about
from roles.leader.outbox import Kept, OutboxLine
from roles.leader.pool import Death
from roles.leader.previews import Previews, is_look
from roles.leader.scheduler import Arrived, Ended, Plan, Ran, Scheduler, Spent
from roles.options import RANK_TIMEOUT_S
from transfer.codec import Message
from transfer.costs import workload
from transfer.errors import PayloadError, PayloadTooLarge
from transfer.header import check_header
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    CacheReport,
    Delivered,
    ErrorInfo,
    Failed,
    ModelInfo,
    Progressed,
    Push,
    PushFailed,
    Release,
    Role,
    Shelf,
    Work,
)
from transfer.pool import SlotPool

log = logging.getLogger(__name__)

GRACE_S = 5.0  # after a request's deadline, for the orchestrator's own Abort to come first


class Engine:
    """Everything that an instance does for requests; it knows no sockets and no processes.

    The control client gives it `accept`, `push`, `abort` and `forget`; what it has to say goes
    through `send`. Whatever happens, each accepted attempt ends with exactly one of `Delivered`,
    `Finished`, `Failed` and `Aborted`, or with none if its epoch ended (`forget`).

    `counters`: duplicate (Work for a live attempt), stray_push, unknown_abort. `encodings`: how the
    encoder's cache stood when something was last encoded. `capacity`: requests of each role; the
    leader knows more once the model is loaded.
    """

    def __init__(
        self,
        name: str,
        capacity: Mapping[Role, int],
        scheduler: Scheduler,
        pool: SlotPool,
        outbox: OutboxLine,
        sender: Sender,
        publisher: Publisher,
        send: Callable[[Message], None],
        on_lost: Callable[[str], None],
        unit_s: float = RANK_TIMEOUT_S,
        checkpoint_s: float = 0.0,
        given: GivenFiles | None = None,
    ) -> None:
        self.name = name
        self.counters: Counter[str] = Counter()
        self.encodings: CacheReport | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.model: ModelInfo | None = None  # for predictions; the leader tells once it is loaded
        self.door = Door(self._ranks_lost, unit_s)
        self.capacity = capacity
        self._scheduler = scheduler
        self._pool = pool
        self._outbox = outbox
        self._checkpoints = Checkpoints(checkpoint_s, outbox, self.door, send)
        self._handover = Handover(pool, outbox, sender, publisher, self.door, send)
        self._given = given or GivenFiles("tcp://127.0.0.1")
        self._previews = Previews(outbox, self._handover, self.door)
        self._send = send
        self._on_lost = on_lost
        self._wake = asyncio.Event()
        self._still = asyncio.Event()  # no unit is being executed
        self._still.set()
        self._pauses = 0
        self._attempts: dict[Key, Attempt] = {}
        self._executing: tuple[Unit, list[Attempt]] | None = None

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Never returns. Raises only if the engine itself is wrong."""
        while True:
            plan = await self._schedule()
            attempts = [self._attempts[key] for key in plan.keys]
            outcomes = await self._execute(plan, attempts)
            self._update(plan, attempts, outcomes)

    async def _schedule(self) -> Plan:
        while True:
            await self.door.open.wait()
            plan = None if self._pauses else self._scheduler.plan()
            if plan is not None:
                return plan
            self._wake.clear()
            await self._wake.wait()

    async def _execute(self, plan: Plan, attempts: list[Attempt]) -> list[Outcome]:
        self._executing = (plan.unit, attempts)
        self._still.clear()
        if plan.unit == "step":
            self._checkpoints.mark(attempts)
        try:
            return await self.door.run(plan, attempts, self._moved_on)
        finally:
            self._executing = None
            self._still.set()

    def _moved_on(self, said: Meanwhile) -> None:
        """Steps of a unit that is still being executed."""
        for done in said.steps:
            attempt = self._attempts.get((done.request, done.attempt))
            if attempt is None or not self._scheduled(attempt):
                continue
            if attempt.step < done.step <= done.steps:
                attempt.step, attempt.steps = done.step, done.steps
                self._tell_step(attempt)

    def _tell_step(self, attempt: Attempt) -> None:
        self._send(Progressed(*about(attempt), step=attempt.step, steps=attempt.steps))

    def _update(self, plan: Plan, attempts: list[Attempt], outcomes: list[Outcome]) -> None:
        for measured in filter(None, [outcome.measured for outcome in outcomes]):
            self._scheduler.handle(measured)
        self.encodings = next((o.encodings for o in outcomes if o.encodings), self.encodings)
        sizes = [len(group) for group in plan.groups for _ in group]
        # no outcomes if ranks were lost
        for attempt, outcome, size in zip(attempts, outcomes, sizes, strict=False):
            if self._scheduled(attempt):
                self._note(plan.unit, attempt, outcome, size)

    def _note(self, unit: Unit, attempt: Attempt, outcome: Outcome, size: int) -> None:
        """`size`: how many requests shared what was done."""
        stepped = outcome.step != attempt.step
        error = outcome.error or _astray(unit, attempt, outcome)
        busy_s = (outcome.read_s + outcome.compute_s) / size
        attempt.add(outcome, busy_s)
        if error is not None:
            self._interrupt(attempt, AttemptFailed(error))
            return
        done, key = outcome.done, attempt.key
        spent = Spent(key, busy_s, outcome.step, outcome.steps, size, whole=done)
        self._scheduler.handle(spent)
        if unit == "begin" and attempt.work.delivery is not None:
            generation = attempt.work.delivery.generation
            self._send(Accepted(*about(attempt), generation=generation))
        if stepped:
            self._tell_step(attempt)
        ran = Ran(key, outcome.batch_key, outcome.branches)
        self._scheduler.handle(Ended(key) if done else ran)
        if outcome.checkpoint is not None:
            self._checkpoints.note(attempt, outcome.checkpoint)
        if outcome.done:
            attempt.computed.set_result(outcome)

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Inside this block no unit runs: it waits for the one that does, steps for one step at
        most, and freezes the queue. Work, aborts, pushes, and whatever else is asked of the ranks
        are served meanwhile. Requests go on where they are afterwards."""
        self._pauses += 1
        try:
            self._turn()
            while self._executing is not None:
                await self._still.wait()
            yield
        finally:
            self._pauses -= 1
            self._wake.set()

    @property
    def computing(self) -> bool:
        """The ranks are at a unit of work."""
        return self._executing is not None

    @property
    def may_land(self) -> list[int]:
        """Generations of grants whose writes failed here and may still arrive."""
        return list(self._handover.may_land)

    # ------------------------------------------------------------ what the orchestrator says

    def accept(self, work: Work, epoch: int) -> None:
        """A stage of a request to compute."""
        key = (work.request, work.attempt)
        if key in self._attempts:
            self.counters["duplicate"] += 1
            return
        if (refusal := self._refusal(work)) is not None:
            released = None if work.grant is None else work.grant.generation
            error = ErrorInfo("internal", refusal, instance=self.name)
            self._send(Failed(epoch, *key, work.role, error=error, released=released))
            return
        attempt = Attempt(work, epoch)
        serving = self._previews.make if is_look(work) else self._serve
        self._begin(attempt, serving(attempt))

    def push(self, push: Push, epoch: int) -> None:
        """A place for a staged payload."""
        attempt = self._attempts.get((push.request, push.attempt))
        waiting = None if attempt is None else attempt.push
        if attempt is not None and waiting is not None and not waiting.done():
            attempt.receive(push.grant)  # from now on it must be given back, whatever comes next
            waiting.set_result(push.grant)
        elif attempt is None and (kept := self._find(push)) is not None:
            self._revive(kept, push, epoch)
        elif attempt is None or attempt.grant != push.grant:
            self.counters["stray_push"] += 1
            self._send(_nothing_staged(push, epoch))

    def move_out(self) -> None:
        """What runs is to be able to go on elsewhere: the instance drains."""
        self._checkpoints.moving = True
        self._turn()

    def release(self, release: Release) -> None:
        """Payloads that need not be kept any longer."""
        for shelf, request, attempt in release.kept:
            self._outbox.release(shelf, (request, attempt))

    def abort(self, abort: Abort, epoch: int) -> None:
        """Nobody wants the attempt any more. `Aborted` follows, once nothing of it goes on."""
        attempt = self._attempts.get((abort.request, abort.attempt))
        if attempt is None:
            self.counters["unknown_abort"] += 1
            self._send(Aborted(epoch, abort.request, abort.attempt))
            return
        attempt.aborted = True
        self._interrupt(attempt, Stopped())

    async def forget(self) -> None:
        """The epoch has ended: drops everything and says nothing about it.

        Returns when nothing of it is being written any more. What a rank computes at this moment it
        finishes, and forgets then.
        """
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            if attempt.key in self._scheduler:
                self._scheduler.handle(Ended(attempt.key))
            attempt.forget()
        self._outbox.release_all()
        tasks = [attempt.task for attempt in attempts.values() if attempt.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        self.idle.set()

    # ------------------------------------------------------------ one attempt

    def _begin(self, attempt: Attempt, serving: Coroutine[Any, Any, Message]) -> None:
        self._attempts[attempt.key] = attempt
        self.idle.clear()
        attempt.task = asyncio.get_running_loop().create_task(self._attend(attempt, serving))

    def _revive(self, kept: Kept, push: Push, epoch: int) -> None:
        """What was computed and delivered for an earlier attempt is now to go elsewhere."""
        seconds = push.grant.seconds
        work = replace(
            kept.work,
            attempt=push.attempt,
            role=push.role,
            seconds=seconds,
            delivery=None,
            grant=push.grant,
        )
        attempt = Attempt(work, epoch, _shelf(push))
        attempt.slots, attempt.computing, attempt.copy = kept.slots, False, push.copy
        delivering = self._handover.deliver(attempt, kept.nbytes, kept.checksum)
        self._begin(attempt, self._copy(attempt, kept, delivering) if push.copy else delivering)

    def _find(self, push: Push) -> Kept | None:
        """What was kept, which belongs to the push from now on, unless it asks for a copy."""
        if push.copy:
            return self._outbox.lend(_held(push))
        return self._outbox.take(_shelf(push), _held(push))

    async def _copy(
        self, attempt: Attempt, kept: Kept, delivering: Coroutine[Any, Any, Message]
    ) -> Message:
        """The slots are lent: they are not the attempt's to keep, nor to give back."""
        try:
            return await delivering
        finally:
            attempt.slots = []
            self._outbox.take_back(kept)

    async def _attend(self, attempt: Attempt, serving: Coroutine[Any, Any, Message]) -> None:
        """From `Work`, or the `Push` of something kept, to the last message."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(attempt.work.seconds + GRACE_S, self._expire, attempt)
        last: Message | ErrorInfo | None = None
        try:
            last = await serving
        except Stopped:
            pass
        except AttemptFailed as error:
            last = error.error
        except Exception as error:
            log.exception("request %s failed unexpectedly", attempt.work.request)
            last = ErrorInfo("internal", f"{type(error).__name__}: {error}")
        timer.cancel()
        await self._come_home(attempt, last)

    async def _serve(self, attempt: Attempt) -> Message:
        attempt.check()  # it may have been aborted or forgotten before this task first ran
        self._check(attempt)
        await self._given.bring(attempt)
        role, inputs = attempt.work.role, attempt.work.inputs
        work, spare = workload(role, inputs, self.model), attempt.work.preview_of is not None
        self._scheduler.handle(Arrived(attempt.key, role, inputs.priority, work, spare))
        self._turn()
        outcome = await attempt.wait(attempt.computed)
        return await self._handover.finish(attempt, outcome)

    def _refusal(self, work: Work) -> str | None:
        """Why work cannot be accepted: the orchestrator counts otherwise than we do. Each class
        has all the places: what is of a lower one gives way."""
        if is_look(work):
            return None
        places, kind = self.capacity.get(work.role, 0), (work.role, work.inputs.priority)
        computing = [a.work for a in self._attempts.values() if a.computing]
        taken = sum((each.role, each.inputs.priority) == kind for each in computing)
        if taken < places:
            return None
        return f"{self.name} takes {places} requests as {work.role} at a time"

    def _check(self, attempt: Attempt) -> None:
        """Raises `AttemptFailed` on a payload that must not be read."""
        delivery = attempt.work.delivery
        if delivery is None:
            return
        try:
            segments = self._pool.segments(delivery.slots, delivery.nbytes)
            check_header(segments[0], *attempt.key, delivery)
        except (PayloadError, PayloadTooLarge, ValueError, IndexError) as error:
            raise AttemptFailed(ErrorInfo("payload", str(error))) from error

    async def _come_home(self, attempt: Attempt, last: Message | ErrorInfo | None) -> None:
        """Gives back what the attempt held, and says its last message."""
        self._checkpoints.forget(attempt)
        if self._scheduled(attempt):
            self._scheduler.handle(Ended(attempt.key))
        unwanted = attempt.aborted or attempt.forgotten.done() or attempt.copy
        wanted = not (unwanted or is_look(attempt.work))
        if isinstance(last, Delivered) and wanted:
            self._outbox.keep(attempt, last.nbytes, last.checksum)
        self._outbox.leave(attempt)
        dropped = self.door.drop(attempt)
        if not isinstance(last, Message):
            # a rank may be at work on it: it is over only when the ranks say so
            ends: set[asyncio.Future[Any]] = {dropped, attempt.forgotten}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self._given.release_all(attempt.files)
        if attempt.forgotten.done():
            return
        del self._attempts[attempt.key]
        if not self._attempts:
            self.idle.set()
        self._say_last(attempt, last)

    def _say_last(self, attempt: Attempt, last: Message | ErrorInfo | None) -> None:
        if attempt.aborted:
            released = attempt.release_grant()
            self._send(Aborted(attempt.epoch, *attempt.key, released=released))
        elif isinstance(last, ErrorInfo):
            error, released = replace(last, instance=self.name), attempt.release_grant()
            self._send(Failed(*about(attempt), error=error, released=released))
        elif last is not None:
            self._send(last)

    # ------------------------------------------------------------ ends from outside

    def _expire(self, attempt: Attempt) -> None:
        message = f"request {attempt.work.request} was not done in {attempt.work.seconds:.1f} s"
        self._interrupt(attempt, AttemptFailed(ErrorInfo("deadline", message)))

    def _ranks_lost(self, death: Death) -> None:
        """Fails what was in the ranks. What waits to begin, or is staged, lives on."""
        cause = f"rank {death.rank} (pid {death.pid}) of {self.name} {death.how}{self._during()}"
        self._on_lost(cause)
        executing = self._executing[1] if self._executing else []
        at_work = [*executing, *self._finishing()]
        for attempt in [a for a in self._attempts.values() if a.in_ranks]:
            attempt.in_ranks = False
            beside = f"; request {attempt.work.request} was in its memory"
            message = cause if attempt in at_work else cause + beside
            bystander = attempt not in at_work
            error = ErrorInfo("rank_died", message, rank=death.rank, bystander=bystander)
            self._interrupt(attempt, AttemptFailed(error))

    def _during(self) -> str:
        unit, attempts = self._executing or ("begin", [])
        doing = [_doing(unit, attempt) for attempt in attempts]
        doing += [f"the making of the files of request {a.work.request}" for a in self._finishing()]
        return " during " + " and ".join(doing) if doing else ""

    def _finishing(self) -> list[Attempt]:
        """Those whose files the ranks make, beside whatever they execute."""
        return [a for a in self._attempts.values() if a.finishing and a.in_ranks]

    def _interrupt(self, attempt: Attempt, error: Exception) -> None:
        """Ends an attempt, wherever it is."""
        if self._scheduled(attempt):
            self._scheduler.handle(Ended(attempt.key))
        attempt.interrupt(error)
        self._turn()

    def _turn(self) -> None:
        """Something has changed that the next plan has to know."""
        self._wake.set()
        if self._executing is not None and self._executing[0] == "step":
            self.door.pause()

    def _scheduled(self, attempt: Attempt) -> bool:
        """Whether the scheduler's entry under this key is this attempt's."""
        return self._attempts.get(attempt.key) is attempt and attempt.key in self._scheduler


def _astray(unit: Unit, attempt: Attempt, outcome: Outcome) -> ErrorInfo | None:
    """A request goes on at its step, whoever went before it meanwhile; a rank that has lost the
    step would compute something else."""
    lost = unit == "step" and not outcome.done and outcome.steps < 1
    if outcome.step >= attempt.step and not lost:
        return None
    said = f"says step {outcome.step} of {outcome.steps} after step {attempt.step}"
    return ErrorInfo("rank_failed", f"the rank {said} of request {attempt.work.request}")


def _held(push: Push) -> Key:
    return push.request, push.held


def _shelf(push: Push) -> Shelf:
    return "checkpoint" if push.checkpoint else push.role


def _nothing_staged(push: Push, epoch: int) -> PushFailed:
    return PushFailed(
        epoch,
        push.request,
        push.attempt,
        role=push.role,
        generation=push.grant.generation,
        may_land=False,
        nbytes=0,
        error=ErrorInfo("transfer_failed", "the payload is not kept any more"),
    )


def _doing(unit: Unit, attempt: Attempt) -> str:
    what = {
        "begin": "the beginning",
        "encode": "the encoding",
        "step": f"step {attempt.step + 1}",
        "decode": "the decoding",
    }
    return f"{what[unit]} of request {attempt.work.request}"
