"""The desk: `handle(event, now) -> commands`. Every decision about jobs is made here."""

from collections import Counter, deque
from math import inf
from typing import Any

from orchestrator.core.commands import Completed, Progress, Reject, Resolve
from orchestrator.core.events import Cancel, Submit
from orchestrator.core.lines import Line
from orchestrator.jobs.books import Books
from orchestrator.jobs.case import At, Case, Part, Phase, last_snapshot
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
)
from orchestrator.jobs.entries import (
    Accepted,
    Attempted,
    Ended,
    Entry,
    Forgotten,
    History,
    Kept,
    Past,
)
from orchestrator.jobs.events import (
    CancelAsked,
    Event,
    JobAsked,
    Recovered,
    Stored,
    StoreFailed,
    Tick,
    WriteFailed,
    Written,
)
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.model import JobProgress, JobStatus
from orchestrator.jobs.retention import Retention
from orchestrator.jobs.writing import Writing
from transfer.messages import ErrorInfo

LIFE = 1 << 32  # events that one life may tell of one job
RECENT = 64
SLOWEST_PACE_S = 60.0


class Desk:
    """Takes jobs in, has their pictures computed by the core, and keeps what came of them.

    It stands between three others, and knows them only by events and commands:

    - The core gets `Submit` and `Cancel`, and its `Progress`, `Resolve` and `Reject` about requests
      that this desk `owns` are events here. As the core promises: each Submit is followed by one
      Reject, or by Progress and in the end one Resolve.
    - The journal gets `Write`. Its shell owes one `Written` or `WriteFailed` for each, in any
      order. Entries that were written are read again in the order of their tickets; one that
      failed may turn up there all the same, and one that nobody reported on because of a crash
      may or may not. Whenever an entry is there, so are all those with lower tickets of this life
      that did not fail.
    - The storage gets `Store`, and owes one `Stored` or `StoreFailed` for each. `Release`,
      `Delete` and `Sweep` are not answered; what they miss is swept in the next life. They are
      never about a file that a job still refers to.

    The first event of a life is `Recovered`. After that come events in any order, one at a time;
    commands are carried out in order. `now` is in Unix seconds, and never goes back within a life.
    Send `Tick` a few times a second. `handle` raises nothing, whatever comes in.

    What holds: nothing is answered before it is on disk. A job that was accepted ends exactly
    once, whatever fails. Its end is told when it is on disk; files that it names are in durable
    storage before that, and are released where they were made after that.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.books = Books()
        self.counters: Counter[str] = Counter()
        self.now = 0.0
        self.unfinished = 0
        self._commands: list[Command] = []
        self._writing = Writing(self.limits)
        self._retention = Retention(self.limits)
        self._out: dict[str, Part] = {}  # with the core or the storage, by request
        self._line: Line[Part] = Line()  # held parts, in order of acceptance
        self._pauses: Line[Part] = Line()  # parts whose storing is tried again, by time
        self._waits: Line[Case] = Line()  # open cases, by the time at which they are given up
        self._ahead = 0  # parts that wait inside the core
        self._closed_until = 0.0  # the core refused a request
        self._probing = False  # and has taken none since
        self._parts = 0
        self._ends: deque[float] = deque(maxlen=RECENT)

    def handle(self, event: Event, now: float) -> list[Command]:
        self.now = max(now, self.now)
        self._dispatch(event)
        self._settle()
        commands, self._commands = self._commands, []
        return commands

    def owns(self, request: str) -> bool:
        """What the core says of this request is for the desk."""
        return request in self._out

    @property
    def idle(self) -> bool:
        """No job is under way, and nothing is held for one that is over."""
        return not self.unfinished and not self._out and self._writing.idle

    def complaints(self) -> list[str]:
        """What does not add up while the desk is idle; empty when everything has come home."""
        counts: dict[str, Line[Any]] = {
            "line": self._line,
            "pauses": self._pauses,
            "waits": self._waits,
        }
        found = [f"{len(line)} left in the {name}" for name, line in counts.items() if line]
        if self._ahead:
            found.append(f"{self._ahead} counted as waiting in the core")
        if len(self._retention) != len(self.books):
            found.append(f"{len(self.books)} jobs, {len(self._retention)} of them retained")
        return found

    def _dispatch(self, event: Event) -> None:
        match event:
            case JobAsked():
                self._asked(event)
            case CancelAsked(asker=asker, job=job):
                self._cancel(asker, job)
            case Written(ticket=ticket):
                self._written(self._writing.written(ticket))
            case WriteFailed(ticket=ticket, reason=reason):
                self._write_failed(self._writing.failed(ticket, reason, self.now), reason)
            case Progress():
                self._progressed(event)
            case Resolve():
                self._resolved(event)
            case Reject(request=request):
                self._rejected(request)
            case Stored():
                self._stored(event)
            case StoreFailed():
                self._store_failed(event)
            case Tick():
                self._tick()
            case Recovered():
                self._recover(event)

    # ------------------------------------------------------------ asking and cancelling

    def _asked(self, event: JobAsked) -> None:
        known = self.books.keyed(event.idempotency)
        if known is not None:
            self._asked_again(known, event)
        elif self._writing.down is not None:
            self._refuse(event.asker, Down(self._writing.down))
        elif self.unfinished >= self.limits.unfinished:
            self._refuse(event.asker, Full(self._pace()))
        else:
            number = self.books.next_number()
            entry = Accepted(event.job, number, self.now, event.spec, event.idempotency)
            case = Case(entry, self.books.first_event)
            case.askers.append(event.asker)
            self.unfinished += 1
            self.books.enter(case)
            self._write(entry)

    def _asked_again(self, case: Case, event: JobAsked) -> None:
        assert case.idempotency is not None
        assert event.idempotency is not None
        if case.idempotency.digest != event.idempotency.digest:
            self._refuse(event.asker, Conflict(case.id))
            return
        self.counters["jobs_asked_again"] += 1
        if case.phase is Phase.ASKED:
            case.askers.append(event.asker)
        else:
            self._do(Answer(event.asker, self.books.snapshot(case)))

    def _refuse(self, asker: int, refusal: Conflict | Full | Down) -> None:
        self.counters["jobs_refused"] += 1
        self._do(Answer(asker, refusal))

    def _pace(self) -> float:
        """Seconds until another job will have ended, from the pace of the latest."""
        if len(self._ends) < 2:
            return 1.0
        pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(SLOWEST_PACE_S, max(1.0, pace))

    def _cancel(self, asker: int, job: str) -> None:
        case = self.books.get(job)
        if case is None:
            self._do(Answer(asker, Unknown()))
        elif case.over is not None:
            self._do(Answer(asker, case.over))
        else:
            case.cancellers.append(asker)
            case.wanted = False
            if case.phase is Phase.OPEN:
                self._end_cancelled(case)

    def _end_cancelled(self, case: Case) -> None:
        self._end(case, "cancelled", ErrorInfo("cancelled", "the job was cancelled"))

    # ------------------------------------------------------------ the journal

    def _write(self, entry: Entry) -> None:
        self._do(self._writing.write(entry))

    def _written(self, entry: Entry | None) -> None:
        case = None if entry is None else self.books.get(entry.job)
        if case is None:
            return
        match entry:
            case Accepted():
                self._accepted(case)
            case Kept(part=index) if case.parts:
                self._release(case.parts[index])
            case Ended():
                self._close(case, entry)
            case Forgotten():
                self._forget(case)

    def _write_failed(self, entry: Entry | None, reason: str) -> None:
        case = None if entry is None else self.books.get(entry.job)
        if case is None or not isinstance(entry, Accepted):
            return
        self.books.remove(case)
        self.unfinished -= 1
        for asker in case.askers:
            self._refuse(asker, Down(reason))
        for asker in case.cancellers:
            self._do(Answer(asker, Unknown()))

    def _matters(self, entry: Entry) -> bool:
        """Whether an entry that failed is worth writing again."""
        if not isinstance(entry, Attempted | Kept):
            return True
        case = self.books.get(entry.job)
        return case is not None and case.phase is Phase.OPEN

    def _accepted(self, case: Case) -> None:
        self.counters["jobs_accepted"] += 1
        self._open(case)
        self._tell(case)
        for asker in case.askers:
            self._do(Answer(asker, self.books.snapshot(case)))
        case.askers = []
        if not case.wanted:
            self._end_cancelled(case)

    def _open(self, case: Case) -> None:
        """Its promise is on disk: from now on it will end."""
        assert case.spec is not None
        case.phase = Phase.OPEN
        for index in range(len(case.spec.inputs)):
            self._parts += 1
            case.parts.append(Part(case, index, self._parts))
        for part in case.parts:
            self._hold(part)
        self._waits.put(self.now + self.limits.wait_s, case.number, case)
        self.books.show(case)

    # ------------------------------------------------------------ the core

    def _progressed(self, event: Progress) -> None:
        self._probing = False
        part = self._out.get(event.request)
        if part is None or part.at not in (At.SENT, At.RUNNING):
            return
        self._move(part, At.SENT if event.stage == "queued" else At.RUNNING)
        part.progress = JobProgress(event.stage, event.step, event.steps)
        if part.at is At.RUNNING and event.attempt > part.noted:
            part.attempts = part.noted = event.attempt
            self._write(Attempted(part.case.id, part.index, event.attempt))
        self._tell(part.case)

    def _resolved(self, event: Resolve) -> None:
        part, result = self._out.get(event.request), event.result
        if part is None or part.at not in (At.SENT, At.RUNNING):
            if part is not None and part.at is At.LEAVING:
                del self._out[event.request]
            if isinstance(result, Completed):
                self._do(Release(result.media))
        elif isinstance(result, Completed):
            part.runs += 1
            part.attempts = max(part.attempts, result.attempts)
            part.media, part.timings = result.media, result.timings
            self._store(part)
        else:
            self._come_back(part)
            self._end(part.case, "failed", result)

    def _rejected(self, request: str) -> None:
        part = self._out.get(request)
        if part is None or part.at is not At.SENT:
            if part is not None and part.at is At.LEAVING:
                del self._out[request]
            return
        self._closed_until = self.now + self.limits.submit_again_s
        self._probing = True
        self._come_back(part)
        self._hold(part)
        self._tell(part.case)

    def _hold(self, part: Part) -> None:
        """Waits at the desk, among the others in the order of acceptance."""
        part.at = At.HELD
        part.progress = JobProgress()
        self._line.put(part.case.number, part.key, part)

    def _come_back(self, part: Part) -> None:
        """The core, or the storage, is done with it."""
        del self._out[part.request]
        self._move(part, At.LEAVING)

    def _feed(self) -> None:
        """Submits what is held, as far as the core should have it."""
        ahead = 1 if self._probing else self.limits.ahead
        while self._ahead < ahead and self.now >= self._closed_until:
            part = self._line.pop_until(inf)
            if part is None:
                return
            spec = part.case.spec
            assert spec is not None
            self._out[part.request] = part
            self._move(part, At.SENT)
            inputs = spec.inputs[part.index]
            self._do(Submit(part.request, inputs, spec.deadline_s, part.attempts))

    def _move(self, part: Part, at: At) -> None:
        self._ahead += (at is At.SENT) - (part.at is At.SENT)
        part.at = at

    # ------------------------------------------------------------ the storage

    def _store(self, part: Part) -> None:
        self._move(part, At.STORING)
        self._out[part.request] = part
        self._do(Store(part.request, part.media))

    def _stored(self, event: Stored) -> None:
        part = self._out.get(event.request)
        if part is None or part.at is not At.STORING:
            if part is not None:
                self._leave_storage(part)
            self._do(Delete(event.files))
            return
        self._come_back(part)
        self._move(part, At.KEPT)
        part.files = event.files
        self._kept(part)

    def _kept(self, part: Part) -> None:
        case = part.case
        if all(each.at is At.KEPT for each in case.parts):
            self._end(case, "completed", None)
            return
        assert part.timings is not None
        self._write(Kept(case.id, part.index, part.attempts, part.timings, part.files))
        self._tell(case)

    def _store_failed(self, event: StoreFailed) -> None:
        part = self._out.get(event.request)
        if part is None or part.at is not At.STORING:
            if part is not None:
                self._leave_storage(part)
            return
        self._come_back(part)
        if event.gone:
            self._lost(part, event.reason)
        else:
            self._unstorable(part, event.reason)

    def _leave_storage(self, part: Part) -> None:
        """Nobody wants what the storage has just dealt with."""
        if part.at is At.DROPPING:
            del self._out[part.request]
            self._do(Release(part.media))

    def _lost(self, part: Part, reason: str) -> None:
        """The file is gone with its instance; the same seed makes the same picture again."""
        self.counters["jobs_files_lost"] += 1
        if part.runs >= self.limits.runs:
            self._do(Release(part.media))
            text = f"the finished file was lost {part.runs} times before it was stored: {reason}"
            self._end(part.case, "failed", ErrorInfo("instance_lost", text))
            return
        self._do(Release(part.media))  # its instance may be there, and only have been too slow
        part.media, part.timings, part.stores = [], None, 0
        self._hold(part)
        self._tell(part.case)

    def _unstorable(self, part: Part, reason: str) -> None:
        part.stores += 1
        if part.stores >= self.limits.stores:
            self._do(Release(part.media))
            text = f"the finished file could not be stored: {reason}"
            self._end(part.case, "failed", ErrorInfo("internal", text))
            return
        part.at = At.PAUSING
        pause = self.limits.store_again_s * 2 ** (part.stores - 1)
        self._pauses.put(self.now + pause, part.key, part)

    def _release(self, part: Part) -> None:
        """Its files are in durable storage, and the journal says so. What the media store has
        stays where it is."""
        elsewhere = [media for media in part.media if media.store_key is None]
        part.media = []
        if elsewhere:
            self._do(Release(elsewhere))

    # ------------------------------------------------------------ ends

    def _end(self, case: Case, status: JobStatus, error: ErrorInfo | None) -> None:
        """Decides the end of an open case. It is told when it is on disk."""
        case.end = case.ended(status, error, self.now)
        case.phase = Phase.ENDING
        self._waits.discard(case.number)
        self.books.wait(case, False)
        for part in case.parts:
            self._drop(part)
        self._write(case.end)

    def _drop(self, part: Part) -> None:
        """Whatever is still being done for the part is not wanted any more."""
        match part.at:
            case At.HELD:
                self._line.discard(part.key)
            case At.PAUSING:
                self._pauses.discard(part.key)
                self._do(Release(part.media))
            case At.SENT | At.RUNNING:
                self._move(part, At.LEAVING)
                self._do(Cancel(part.request, "the job is over"))
            case At.STORING:
                part.at = At.DROPPING

    def _close(self, case: Case, ended: Ended) -> None:
        """The end is on disk."""
        kept = [part for part in case.parts if part.at is At.KEPT]
        for part in kept:
            self._release(part)
        unwanted = [file for part in kept for file in part.files if not ended.files]
        if unwanted:
            self._do(Delete(unwanted))
        self._finish(case, ended)
        self.unfinished -= 1
        self._ends.append(self.now)
        self.counters[f"jobs_{ended.status}"] += 1
        self._notify(case)
        for asker in case.cancellers:
            assert case.over is not None
            self._do(Answer(asker, case.over))
        case.cancellers = []

    def _finish(self, case: Case, ended: Ended) -> None:
        case.close(last_snapshot(ended))
        self._retention.add(case.id, ended.finished_at, sum(file.nbytes for file in ended.files))

    def _forget(self, case: Case) -> None:
        self.books.remove(case)
        if case.over is not None and case.over.files:
            self._do(Delete(case.over.files))
        self._do(Forget(case.id))

    # ------------------------------------------------------------ time

    def _tick(self) -> None:
        for command in self._writing.retry(self.now, self._matters):
            self._do(command)
        while part := self._pauses.pop_until(self.now):
            self._store(part)
        while case := self._waits.pop_until(self.now):
            text = f"the job was not over after {self.limits.wait_s:g} s"
            self._end(case, "failed", ErrorInfo("deadline", text))

    def _settle(self) -> None:
        self._feed()
        while job := self._retention.take(self.now):
            self.counters["jobs_forgotten"] += 1
            self._write(Forgotten(job))

    # ------------------------------------------------------------ another life

    def _recover(self, event: Recovered) -> None:
        history = History(event.entries)
        self.books.first_event = event.life * LIFE
        finished: list[tuple[Case, Ended]] = []
        for past in history:
            case = Case(past.first, self.books.first_event)
            self.books.enter(case)
            if isinstance(past.first, Ended):
                finished.append((case, past.first))
                continue
            self.counters["jobs_recovered"] += 1
            self.unfinished += 1
            self._open(case)
            self._resume(case, past)
        for case, ended in sorted(finished, key=lambda each: each[1].finished_at):
            self._finish(case, ended)
            case.events += 1
            self.books.show(case)
        self._do(Sweep([file.key for past in history for file in past.files()]))
        if history.strays:
            self._do(Log(f"the journal has {len(history.strays)} entries about unknown jobs"))

    def _resume(self, case: Case, past: Past) -> None:
        """Goes on where an earlier life stopped: pictures that it kept are not made again."""
        for index, attempts in past.attempts.items():
            case.parts[index].attempts = case.parts[index].noted = attempts
        for index, kept in past.kept.items():
            part = case.parts[index]
            self._line.discard(part.key)
            part.at, part.files, part.timings = At.KEPT, kept.files, kept.timings
        if all(part.at is At.KEPT for part in case.parts):
            self._end(case, "completed", None)
        else:
            self._tell(case)

    # ------------------------------------------------------------ telling

    def _tell(self, case: Case) -> None:
        """To those who follow an open job, if there is anything new."""
        running = case.running
        self.books.wait(case, not running)
        news = (running, case.progress, case.attempts)
        if news != case.told:
            case.told = news
            self._notify(case)

    def _notify(self, case: Case) -> None:
        case.events += 1
        self._do(Notify(self.books.event(case)))

    def _do(self, command: Command) -> None:
        self._commands.append(command)
