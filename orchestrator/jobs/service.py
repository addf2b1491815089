"""Jobs for the front door: the desk, with a core, a journal, a storage and a clock around it."""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

from orchestrator.control import Control, Outcome
from orchestrator.core.commands import Completed, Discard, Resolve
from orchestrator.core.events import Cancel, Submit
from orchestrator.jobs.case import Phase
from orchestrator.jobs.commands import (
    Answer,
    Command,
    Conflict,
    Delete,
    Down,
    Forget,
    Full,
    Log,
    Notify,
    Release,
    Store,
    Sweep,
    Unknown,
    Write,
)
from orchestrator.jobs.desk import Desk
from orchestrator.jobs.events import (
    CancelAsked,
    Event,
    ForgetAsked,
    JobAsked,
    Stored,
    StoreFailed,
    Tick,
    WriteFailed,
)
from orchestrator.jobs.followers import News
from orchestrator.jobs.journal import Journal, Report
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.media import FileGone, MediaKeeper
from orchestrator.jobs.model import (
    Idempotency,
    Job,
    JobEvent,
    JobSpec,
    JobStatus,
    JournalDown,
    KeyConflict,
    StoredFile,
)
from orchestrator.jobs.previews import Previews
from orchestrator.service import Busy
from transfer.messages import Media
from transfer.threads import in_thread

log = logging.getLogger("orchestrator.jobs")

TICK_S = 0.1
LOST_S = 2.0  # a file whose instance is gone for so long is not waited for
Reply = Job | Conflict | Full | Down | Unknown


class Jobs:
    """Durable generations. Lives in the event loop of the control channel, and hears first what the
    core says; what is not about jobs it passes on to whoever listened before.

    `await start()` reads the journal (`JournalError`), and everything that was promised goes on.
    `await run()` in a task: it ends only by being cancelled, or because the journal is somebody
    else's now, which the process has to report. `await close()` writes what still waits.
    """

    def __init__(
        self, control: Control, journal: Journal, keeper: MediaKeeper, limits: Limits | None = None
    ) -> None:
        self._control = control
        self._journal = journal
        self._keeper = keeper
        self._desk = Desk(limits)
        self._clock = _clock()
        self._events: deque[Event] = deque()
        self._busy = False
        self._askers = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._news: dict[str, News] = {}
        self._previews = Previews(
            keeper.unfinished, lambda media: self._tidy(self._keeper.release([media]))
        )
        self._storing: dict[asyncio.Task[None], _Source] = {}
        self._tidying: set[asyncio.Task[None]] = set()
        self._lost = asyncio.Event()
        self._observers: list[Callable[[Completed], None]] = []
        self._errors = 0
        self._closing = False
        self._pass_on = control.listener

    # ------------------------------------------------------------ for the front door

    async def submit(self, spec: JobSpec, idempotency: Idempotency | None = None) -> Job:
        """The job, when its promise is on disk. Raises `Busy`, `KeyConflict` or `JournalDown`: then
        nothing was accepted. Roles that are missing are waited for."""
        if not spec.inputs:
            raise ValueError("a job without pictures")
        id = f"job_{secrets.token_hex(16)}"
        reply = await self._ask(lambda asker: JobAsked(asker, id, spec, idempotency))
        return _taken(reply, idempotency)

    async def recall(self, idempotency: Idempotency) -> Job | None:
        """The job that this key belongs to, if there is one. Raises `KeyConflict`."""
        case = self._desk.books.keyed(idempotency)
        if case is None:
            return None
        if case.phase is Phase.ASKED and case.spec is not None:
            return await self.submit(case.spec, idempotency)
        if case.idempotency is not None and case.idempotency.digest != idempotency.digest:
            raise KeyConflict(idempotency.key, case.id)
        return self._desk.books.snapshot(case)

    async def find(self, id: str) -> Job | None:
        return self._desk.books.find(id)

    async def page(
        self,
        limit: int,
        after: str | None,
        status: JobStatus | None,
        *,
        videos: bool = False,
        ascending: bool = False,
    ) -> tuple[list[Job], bool]:
        """The newest first, or the oldest, and whether there are more. `videos`: only what was
        asked for as one. `KeyError`: there is no job `after`."""
        page = self._desk.books.page
        return page(limit, after, status, videos=videos, ascending=ascending)

    async def cancel(self, id: str) -> Job:
        """The job, when it is over. `KeyError`: there is no such job."""
        reply = await self._ask(lambda asker: CancelAsked(asker, id))
        if not isinstance(reply, Job):
            raise KeyError(id)
        return reply

    async def forget(self, id: str) -> None:
        """Returns when nothing is kept of the job. One that is not over is cancelled first.
        `KeyError`: there is no such job. `JournalDown`: it will be forgotten, but not yet."""
        await self.cancel(id)
        reply = await self._ask(lambda asker: ForgetAsked(asker, id))
        if isinstance(reply, Down):
            raise JournalDown(reply.reason)

    async def events(self, id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        """Those with numbers above `after` that are kept, then new ones; the one with which the job
        is over is the last, and comes even if its number is not above `after`. `KeyError`."""
        newest = self._desk.books.newest(id)
        if newest is None:
            raise KeyError(id)
        if newest.job.over:
            yield newest
            return
        news = self._news.setdefault(id, News())
        fresh = news.after(after) or [newest][: newest.number > after]
        while True:
            for event in fresh:
                yield event
                after = event.number
                if event.job.over:
                    return
            while not (fresh := news.after(after)):
                await news.more()

    async def wait(self, id: str) -> Job:
        """The job, when it is over. `KeyError`."""
        events = self.events(id, 0)
        try:
            async for event in events:
                if event.job.over:
                    return event.job
        finally:
            await events.aclose()
        raise KeyError(id)

    def observe(self, finished: Callable[[Completed], None]) -> None:
        """Calls `finished` with every picture that is computed from now on."""
        self._observers.append(finished)

    def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """The bytes of a file. Raises `MediaError` if it is gone."""
        return self._keeper.chunks(file)

    def preview(self, media: Media) -> AsyncGenerator[bytes, None]:
        """The bytes of what an event has `shown`. Raises `MediaError` if it is gone: there is a
        later one, the picture is done, or the decoder has ended. Who has begun to read can read it
        to its end."""
        return self._previews.read(media)

    def local_path(self, file: StoredFile) -> Path | None:
        """Where the file lies, if it lies on this machine."""
        return self._keeper.local_path(file)

    @property
    def counters(self) -> dict[str, int]:
        """jobs_{accepted,completed,failed,cancelled,recovered,refused,forgotten,…}, journal_*."""
        counted = self._desk.counters + self._journal.counters
        return {**counted, "jobs_errors": self._errors} if self._errors else dict(counted)

    # ------------------------------------------------------------ for the process

    async def start(self) -> None:
        """Reads what earlier lives promised, and takes it up. Raises `JournalError`."""
        recovered = await in_thread(self._journal.open)
        self._journal.start(self._report, self._lost.set)
        commands = self._desk.handle(recovered, self._clock())
        for command in commands:
            if isinstance(command, Sweep):  # before anything new is stored
                swept = await in_thread(self._keeper.sweep, command.keep)
                log.info("%d leftover files were swept", swept) if swept else None
        self._control.listener = self._hear
        for command in commands:
            self._carry_out(command)
        if count := self._desk.counters["jobs_recovered"]:
            log.info("%d unfinished jobs were found in the journal, and go on", count)

    async def run(self) -> None:
        """Never returns; raises `RuntimeError` when the journal was taken over."""
        while not self._lost.is_set():
            self._feed(Tick())
            self._abandon()
            await asyncio.sleep(TICK_S)
        raise RuntimeError(f"another orchestrator has taken the journal {self._journal.where} over")

    async def close(self) -> None:
        """Unfinished jobs stay in the journal for the next life."""
        self._control.listener = self._pass_on
        self._closing = True
        tasks = [*self._storing, *self._tidying]
        for task in self._storing:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await in_thread(self._journal.close)

    # ------------------------------------------------------------ events

    def _feed(self, event: Event) -> None:
        """The event, and those that come of carrying out what the desk wants."""
        if self._closing:
            return  # the next life hears of it, or begins anew
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self._handle(self._events.popleft())
        finally:
            self._busy = False

    def _handle(self, event: Event) -> None:
        try:
            commands = self._desk.handle(event, self._clock())
        except Exception:
            self._errors += 1
            log.exception("an event could not be handled: %s", type(event).__name__)
            return
        for command in commands:
            self._carry_out(command)

    def _hear(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Discard) and self._desk.owns(outcome.request):
            if isinstance(outcome, Resolve) and isinstance(outcome.result, Completed):
                for finished in self._observers:
                    finished(outcome.result)
            self._feed(outcome)
        else:
            self._pass_on(outcome)

    def _report(self, reports: list[Report]) -> None:
        for report in reports:
            self._feed(report)

    async def _ask(self, event: Callable[[int], Event]) -> Reply:
        """Who asks may go away; what was asked for happens all the same."""
        self._askers += 1
        asker = self._askers
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[asker] = future
        try:
            self._feed(event(asker))
            return await future
        finally:
            del self._waiting[asker]

    # ------------------------------------------------------------ commands

    def _carry_out(self, command: Command) -> None:
        match command:
            case Write(ticket=ticket, entry=entry):
                never = self._journal.write(ticket, entry)
                if never is not None:
                    self._feed(WriteFailed(ticket, never))
            case Submit() | Cancel():
                self._control.post(command)
            case Store():
                task = asyncio.create_task(self._store(command))
                self._storing[task] = _Source(command.media, self._lives)
                task.add_done_callback(self._storing.pop)
            case Release(media=media):
                if made := [each for each in media if not self._previews.let_go(each)]:
                    self._tidy(self._keeper.release(made))
            case Delete(files=files):
                self._tidy(self._keeper.delete(files))
            case Answer(asker=asker, reply=reply):
                future = self._waiting.get(asker)
                if future is not None and not future.done():
                    future.set_result(reply)
            case Notify(event=event):
                self._notify(event)
            case Forget(job=job):
                self._news.pop(job, None)
            case Log(text=text):
                log.warning("%s", text)

    def _notify(self, event: JobEvent) -> None:
        job = event.job.id
        if event.shown is not None:
            self._previews.show(event.shown.media)
        self._news.setdefault(job, News()).add(event)
        if event.job.over:
            del self._news[job]  # its readers hold on to it; the desk keeps the end

    async def _store(self, store: Store) -> None:
        try:
            files = await self._keeper.store(store.request, store.media)
        except FileGone as error:
            self._feed(StoreFailed(store.request, str(error), gone=True))
        except asyncio.CancelledError:
            # given up by _abandon; or the process ends, and nobody listens
            text = "the instance that made the file is gone"
            self._feed(StoreFailed(store.request, text, gone=True))
        except Exception as error:
            log.warning("files of %s cannot be stored: %s", store.request, error)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._feed(StoreFailed(store.request, reason, gone=False))
        else:
            self._feed(Stored(store.request, files))

    def _abandon(self) -> None:
        """Reading from an instance that is gone would wait for a long time."""
        now = self._clock()
        for task, source in self._storing.items():
            if source.lost_for(now) >= LOST_S:
                task.cancel()

    def _lives(self, endpoint: str | None) -> bool:
        return endpoint in self._control.machine.books.registry.by_endpoint

    def _tidy(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)


class _Source:
    """Where files are being read from. What was no live instance's from the beginning is not judged
    by that."""

    def __init__(self, media: list[Media], lives: Callable[[str | None], bool]) -> None:
        self._endpoints = {each.endpoint for each in media if lives(each.endpoint)}
        self._lives = lives
        self._since: float | None = None

    def lost_for(self, now: float) -> float:
        """Seconds for which one of the instances has been gone."""
        if all(self._lives(endpoint) for endpoint in self._endpoints):
            self._since = None
        elif self._since is None:
            self._since = now
        return 0.0 if self._since is None else now - self._since


def _taken(reply: Reply, idempotency: Idempotency | None) -> Job:
    match reply:
        case Job():
            return reply
        case Full(retry_after_s=seconds):
            raise Busy(seconds)
        case Down(reason=reason):
            raise JournalDown(reason)
        case Conflict(job=job):
            assert idempotency is not None
            raise KeyConflict(idempotency.key, job)
        case Unknown():
            raise AssertionError("a job that is asked for is never unknown")


def _clock() -> Callable[[], float]:
    """Unix seconds that never go back, and do not jump when the clock of the host is set."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
