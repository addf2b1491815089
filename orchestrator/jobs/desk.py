"""The desk: `handle(event, now) -> commands`. Every decision about jobs is made here."""

from collections import Counter

from orchestrator.core.commands import Preview, Progress, Reject, Resolve
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
    ForgetAsked,
    JobAsked,
    Recovered,
    Stored,
    StoreFailed,
    Tick,
    WriteFailed,
    Written,
)
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.model import JobEvent, JobStatus, Shown
from orchestrator.jobs.pictures import Pictures
from orchestrator.jobs.retention import Retention
from orchestrator.jobs.unfinished import Unfinished
from orchestrator.jobs.writing import Writing
from transfer.messages import ErrorInfo

LIFE = 1 << 32  # events that one life may tell of one job


class Desk:
    """Takes jobs in, has their pictures computed by the core, and keeps what came of them.

    It stands between three others, and knows them only by events and commands:

    - The core gets `Submit` and `Cancel`, and its `Progress`, `Preview`, `Resolve` and `Reject`
      about requests that this desk `owns` are events here. As the core promises: each Submit is
      followed by one Reject, or by Progress and in the end one Resolve; a Preview may come
      between any of these.
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
        self.unfinished = Unfinished(self.limits)
        self._commands: list[Command] = []
        self._writing = Writing(self.limits)
        self._retention = Retention(self.limits)
        self._pictures = Pictures(self.limits, self, self._do, self.counters)
        self._waits: Line[Case] = Line()  # open cases, by the time at which they are given up

    def handle(self, event: Event, now: float) -> list[Command]:
        self.now = self._pictures.now = max(now, self.now)
        self._dispatch(event)
        self._settle()
        commands, self._commands = self._commands, []
        return commands

    def owns(self, request: str) -> bool:
        """What the core says of this request is for the desk."""
        return self._pictures.owns(request)

    @property
    def idle(self) -> bool:
        """No job is under way, and nothing is held for one that is over."""
        return not self.unfinished and self._pictures.idle and self._writing.idle

    def complaints(self) -> list[str]:
        """What does not add up while the desk is idle; empty when everything has come home."""
        found = self._pictures.complaints()
        if len(self._waits):
            found.append(f"{len(self._waits)} jobs still have a time to be given up")
        if len(self._retention) != len(self.books):
            found.append(f"{len(self.books)} jobs, {len(self._retention)} of them retained")
        return found

    def _dispatch(self, event: Event) -> None:
        match event:
            case JobAsked():
                self._asked(event)
            case CancelAsked(asker=asker, job=job):
                self._cancel(asker, job)
            case ForgetAsked(asker=asker, job=job):
                self._forget_asked(asker, job)
            case Written(ticket=ticket):
                self._written(self._writing.written(ticket))
            case WriteFailed(ticket=ticket, reason=reason):
                self._write_failed(self._writing.failed(ticket, reason, self.now), reason)
            case Progress():
                self._pictures.progressed(event)
            case Preview():
                self._pictures.previewed(event)
            case Resolve():
                self._pictures.resolved(event)
            case Reject(request=request):
                self._pictures.rejected(request)
            case Stored():
                self._pictures.stored(event)
            case StoreFailed():
                self._pictures.store_failed(event)
            case Tick():
                self._tick()
            case Recovered():
                self._recover(event)

    # ------------------------------------------------------------ asking and cancelling

    def _asked(self, event: JobAsked) -> None:
        known, model = self.books.keyed(event.idempotency), event.spec.described.model
        if known is not None:
            self._asked_again(known, event)
        elif self._writing.down is not None:
            self._refuse(event.asker, Down(self._writing.down))
        elif self.unfinished.full(model):
            self._refuse(event.asker, Full(self.unfinished.pace(model)))
        else:
            number = self.books.next_number()
            entry = Accepted(event.job, number, self.now, event.spec, event.idempotency)
            case = Case(entry, self.books.first_event)
            case.askers.append(event.asker)
            self.unfinished.begin(model)
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

    def _forget_asked(self, asker: int, job: str) -> None:
        """Answered with `Unknown` when it is gone; with the job, if it is not over."""
        case = self.books.get(job)
        if case is None or case.phase is Phase.ASKED:
            self._do(Answer(asker, Unknown()))
        elif case.over is None:
            self._do(Answer(asker, self.books.snapshot(case)))
        else:
            case.forgetters.append(asker)
            if self._retention.drop(job):  # else it is on its way out already
                self.counters["jobs_forgotten"] += 1
                self._write(Forgotten(job))

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
                self._pictures.release(case.parts[index])
            case Ended():
                self._close(case, entry)
            case Forgotten():
                self._forget(case)

    def _write_failed(self, entry: Entry | None, reason: str) -> None:
        case = None if entry is None else self.books.get(entry.job)
        if case is not None and isinstance(entry, Forgotten):
            # it is written later; who waits is told now
            for asker in case.forgetters:
                self._do(Answer(asker, Down(reason)))
            case.forgetters = []
        if case is None or not isinstance(entry, Accepted):
            return
        self.books.remove(case)
        self.unfinished.drop(case.described.model)
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
        self.moved(case)
        for asker in case.askers:
            self._do(Answer(asker, self.books.snapshot(case)))
        case.askers = []
        if not case.wanted:
            self._end_cancelled(case)

    def _open(self, case: Case) -> None:
        """Its promise is on disk: from now on it will end."""
        case.phase = Phase.OPEN
        self._pictures.open(case)
        self._waits.put(self.now + self.limits.wait_s, case.number, case)
        self.books.show(case)

    # ------------------------------------------------------------ what the pictures tell

    def began(self, part: Part) -> None:
        self._write(Attempted(part.case.id, part.index, part.attempts))

    def kept(self, part: Part) -> None:
        case = part.case
        if all(each.at is At.KEPT for each in case.parts):
            self._end(case, "completed", None)
            return
        assert part.timings is not None
        self._write(Kept(case.id, part.index, part.attempts, part.timings, part.files))
        self.moved(case)

    def failed(self, case: Case, error: ErrorInfo) -> None:
        self._end(case, "failed", error)

    # ------------------------------------------------------------ ends

    def _end(self, case: Case, status: JobStatus, error: ErrorInfo | None) -> None:
        """Decides the end of an open case. It is told when it is on disk."""
        case.end = case.ended(status, error, self.now)
        case.phase = Phase.ENDING
        self._waits.discard(case.number)
        self.books.wait(case, False)
        for part in case.parts:
            self._pictures.drop(part)
        self._write(case.end)

    def _close(self, case: Case, ended: Ended) -> None:
        """The end is on disk."""
        kept = [part for part in case.parts if part.at is At.KEPT]
        for part in kept:
            self._pictures.release(part)
        unwanted = [file for part in kept for file in part.files if not ended.files]
        if unwanted:
            self._do(Delete(unwanted))
        self._finish(case, ended)
        self.unfinished.end(case.described.model, self.now)
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
        for asker in case.forgetters:
            self._do(Answer(asker, Unknown()))

    # ------------------------------------------------------------ time

    def _tick(self) -> None:
        for command in self._writing.retry(self.now, self._matters):
            self._do(command)
        self._pictures.tick()
        while case := self._waits.pop_until(self.now):
            text = f"the job was not over after {self.limits.wait_s:g} s"
            self._end(case, "failed", ErrorInfo("deadline", text))

    def _settle(self) -> None:
        self._pictures.feed()
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
            self.unfinished.begin(case.described.model)
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
            self._pictures.restore(case.parts[index], kept)
        if all(part.at is At.KEPT for part in case.parts):
            self._end(case, "completed", None)
        else:
            self.moved(case)

    # ------------------------------------------------------------ telling

    def moved(self, case: Case) -> None:
        """To those who follow an open job, if there is anything new."""
        running = case.running
        self.books.wait(case, not running)
        news = (running, case.progress, case.attempts)
        if news != case.told:
            case.told = news
            self._notify(case)

    def shows(self, part: Part) -> None:
        case = part.case
        case.events += 1
        shown = Shown(part.index, part.shown - 1, part.preview[0])
        self._do(Notify(JobEvent(case.events, "preview", self.books.snapshot(case), shown)))

    def _notify(self, case: Case) -> None:
        case.events += 1
        self._do(Notify(self.books.event(case)))

    def _do(self, command: Command) -> None:
        self._commands.append(command)
