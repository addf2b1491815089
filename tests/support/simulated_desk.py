"""The desk among a core, a journal and a storage that fail in every way they may, from one seed."""

import random
from collections import Counter, deque
from collections.abc import Sequence

from orchestrator.core.commands import (
    Completed,
    Preview,
    Progress,
    QueueFull,
    Reject,
    Resolve,
    Timings,
)
from orchestrator.core.events import Cancel, Submit
from orchestrator.jobs.case import At
from orchestrator.jobs.commands import (
    Answer,
    Command,
    Delete,
    Forget,
    Notify,
    Release,
    Store,
    Sweep,
    Unknown,
    Write,
)
from orchestrator.jobs.desk import Desk
from orchestrator.jobs.entries import Accepted, Ended, Entry, History
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
from orchestrator.jobs.model import Described, Idempotency, Job, JobSpec, StoredFile
from transfer.made import ImageMade
from transfer.messages import ErrorInfo, Inputs, Media

TIMINGS = Timings(queue_s=0.0, transfer_s=0.0, total_s=1.0)
LIMITS = Limits(
    unfinished=12, ahead=3, ttl_s=60.0, nbytes=2_000, finished=20, wait_s=500.0, write_again_s=0.2
)


def spec(count: int = 1, seed: int = 7, previews: int = 0) -> JobSpec:
    inputs = [Inputs({"prompt": "a red circle"}, seed + i) for i in range(count)]
    described = Described(seed, "png", "high", False)
    return JobSpec(inputs, described, deadline_s=60.0, previews=previews)


def picture(request: str, attempt: int) -> Media:
    return Media(f"{request}/{attempt}", ImageMade(), "image/png", 100, endpoint="tcp://decoder:1")


def look(request: str, number: int) -> Media:
    """A preview of it."""
    return Media(f"{request}~{number}", ImageMade(), "image/png", 50, endpoint="tcp://decoder:1")


class DeskWorld:
    """`step` lets one random thing happen; `quiesce` ends the faults and waits for everything.

    After each event it is asserted that nothing was answered, told, released or deleted too early,
    and that no job was told two ends.
    """

    def __init__(self, seed: int, faults: bool = True) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.now = 1_000_000.0
        self.life = 0
        self.durable: list[Entry] = []
        self.disk: set[str] = set()
        self.promised: set[str] = set()
        self.ends: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.forgotten: set[str] = set()
        self.begun: Counter[str] = Counter()  # the highest attempt ever, by request
        self.lives: Counter[str] = Counter()
        self.made = 0
        self.forgetting: dict[int, str] = {}  # by who asked
        self.looks = 0
        self._start()

    def _start(self) -> None:
        self.desk = Desk(LIMITS)
        self.writes: deque[Write] = deque()
        self.core: dict[str, int] = {}  # request → attempt
        self.due: dict[str, int] = {}  # request → previews that may come of it
        self.stores: dict[str, Store] = {}
        self.released: set[str] = set()
        self.at_decoder: set[str] = set()
        self.feed(Recovered(list(self.durable), self.life))
        self.life += 1

    # ------------------------------------------------------------ one thing after another

    def step(self) -> None:
        self.now += self.dice.expovariate(20.0)
        happen = self.dice.choices(
            [
                self.ask,
                self.cancel,
                self.forget,
                self.write,
                self.compute,
                self.store,
                self.tick,
                self.crash,
            ],
            [6, 1, 1, 14, 14, 8, 3, 0.1 if self.faults else 0],
        )[0]
        happen()

    def quiesce(self) -> None:
        self.faults = False
        for _ in range(10_000):
            if self.desk.idle:
                break
            self.now += 0.1
            for happen in (self.write, self.compute, self.store, self.tick):
                happen()
        assert self.desk.idle

    def ask(self) -> None:
        self.made += 1
        key = None
        if self.dice.random() < 0.5:
            digest = bytes([self.dice.randrange(2)])
            key = Idempotency(f"key-{self.dice.randrange(30)}", digest)
        count = self.dice.choice([1, 1, 1, 2, 3])
        asked = spec(count, previews=self.dice.randint(0, 3))
        self.feed(JobAsked(self.made, f"job_{self.made}", asked, key))

    def cancel(self) -> None:
        if self.made:
            self.feed(
                CancelAsked(-1, f"job_{self.dice.randint(max(1, self.made - 20), self.made)}")
            )

    def forget(self) -> None:
        """One that is over goes; whoever asked hears of it when it is gone."""
        if self.made:
            job = f"job_{self.dice.randint(max(1, self.made - 20), self.made)}"
            asker = -2 - self.made
            self.forgetting.setdefault(asker, job)
            self.feed(ForgetAsked(asker, self.forgetting[asker]))

    def tick(self) -> None:
        self.feed(Tick())

    def write(self) -> None:
        """A group is written, or fails; what failed may have landed."""
        group = [
            self.writes.popleft() for _ in range(min(len(self.writes), self.dice.randint(1, 4)))
        ]
        fate = self.dice.random() if self.faults else 1.0
        if fate > 0.05:
            self.durable += [write.entry for write in group]
            for write in group:
                self.feed(Written(write.ticket))
            return
        if fate < 0.02:
            self.durable += [write.entry for write in group]
        for write in group:
            self.feed(WriteFailed(write.ticket, "the disk is full"))

    def compute(self) -> None:
        if not self.core:
            return
        request = self.dice.choice(list(self.core))
        attempt = self.core[request]
        fate = self.dice.random()
        if self.due[request] and self.dice.random() < 0.3:
            self._preview(request)
        elif fate < 0.4:
            self.begun[request] = max(self.begun[request], attempt)
            self.feed(Progress(request, attempt, "denoiser", "d", self.dice.randint(0, 9), 9))
        elif fate < 0.45 and self.faults:
            self.core[request] = attempt + 1
            self.feed(Progress(request, attempt + 1, "queued", None, 0, 0))
        elif fate < 0.5 and self.faults:
            del self.core[request]
            self.feed(Resolve(request, ErrorInfo("rank_failed", "scripted")))
        else:
            del self.core[request]
            media = picture(request, attempt)
            self.at_decoder.add(media.id)
            self.feed(Resolve(request, Completed([media], TIMINGS, attempt)))

    def _preview(self, request: str) -> None:
        self.due[request] -= 1
        self.looks += 1
        media = look(request, self.looks)
        self.at_decoder.add(media.id)
        self.feed(Preview(request, [media]))

    def store(self) -> None:
        if not self.stores:
            return
        request = self.dice.choice(list(self.stores))
        store = self.stores.pop(request)
        fate = self.dice.random() if self.faults else 1.0
        if fate < 0.1:
            self.feed(StoreFailed(request, "no answer", gone=True))
        elif fate < 0.2:
            self.feed(StoreFailed(request, "no space", gone=False))
        else:
            self.feed(Stored(request, self._files(store)))

    def _files(self, store: Store) -> list[StoredFile]:
        for media in store.media:
            assert media.id not in self.released, "it was released before it was stored"
        keys = [f"{self.life}/{media.id}" for media in store.media]
        self.disk.update(keys)
        return [StoredFile(key, ImageMade(), "image/png", 100) for key in keys]

    def crash(self) -> None:
        """What was being written may have landed or not, in order; files likewise."""
        landed = self.dice.randint(0, len(self.writes))
        self.durable += [write.entry for write in list(self.writes)[:landed]]
        for store in self.stores.values():
            if self.dice.random() < 0.5:
                self._files(store)
        self._start()

    # ------------------------------------------------------------ what the desk wants

    def feed(self, *events: Event) -> None:
        waiting = deque(events)
        while waiting:
            commands = self.desk.handle(waiting.popleft(), self.now)
            for command in commands:
                waiting.extend(self._carry_out(command))

    def _carry_out(self, command: Command) -> Sequence[Event]:
        match command:
            case Write():
                self.writes.append(command)
            case Submit():
                return [self._submit(command)]
            case Cancel(request=request):
                assert self.core.pop(request, None) is not None
                return [Resolve(request, ErrorInfo("cancelled", "cancelled"))]
            case Store(request=request):
                assert request not in self.stores
                self.stores[request] = command
            case Release(media=media):
                self._release(media)
            case Delete(files=files):
                keys = {file.key for file in files}
                assert not keys & self._referred(), "a file that a job refers to was deleted"
                self.disk -= keys
            case Sweep(keep=keep):
                self.disk &= set(keep)
            case Answer(reply=Job() as job):
                # one that is over may be on its way out, in a write that failed and landed
                assert job.over or job.id in self._written(), "answered before it was written"
                self.promised.add(job.id)
                self._look(job)
            case Answer(asker=asker, reply=Unknown()) if asker in self.forgetting:
                assert self.desk.books.find(self.forgetting[asker]) is None, "told, and not gone"
            case Notify(event=event):
                assert event.number > self.numbers.get(event.job.id, 0)
                self.numbers[event.job.id] = event.number
                assert event.shown is None or event.shown.media.id not in self.released
                self._look(event.job)
            case Forget(job=job):
                self.forgotten.add(job)
        return []

    def _submit(self, submit: Submit) -> Event:
        assert submit.request not in self.core
        if self.faults and self.dice.random() < 0.2:
            return Reject(submit.request, QueueFull(1.0))
        assert len(self.core) < LIMITS.unfinished * 3
        self.core[submit.request] = submit.attempts + 1
        self.due[submit.request] = submit.previews
        return Progress(submit.request, submit.attempts + 1, "queued", None, 0, 0)

    def _release(self, media: list[Media]) -> None:
        kept = {_media_id(key) for key in self._referred()}
        for each in media:
            assert "~" not in each.id or each.id not in self.released, "a preview, twice"
            assert each.id in kept or not self._wanted(each), "released before the journal had it"
            self.released.add(each.id)

    def _wanted(self, media: Media) -> bool:
        """It was stored for a job that is, or will be, completed."""
        case = self.desk.books.get(media.id.partition("/")[0].rpartition("-")[0])
        if case is None or (case.end is not None and case.end.status != "completed"):
            return False
        if case.over is not None:
            files = case.over.files
        else:
            files = [file for part in case.parts if part.at is At.KEPT for file in part.files]
        return media.id in {_media_id(file.key) for file in files}

    def _look(self, job: Job) -> None:
        if not job.over:
            assert job.id not in self.ends, "over, and then not"
            return
        assert self.ends.setdefault(job.id, job.status) == job.status, "two ends"
        assert any(isinstance(e, Ended) and e.job == job.id for e in self.durable)
        if job.status == "completed" and job.id not in self.forgotten:
            assert {file.key for file in job.files} <= self.disk

    def _written(self) -> set[str]:
        return {past.first.job for past in History(self.durable)}

    def _referred(self) -> set[str]:
        return {file.key for past in History(self.durable) for file in past.files()}

    # ------------------------------------------------------------ in the end

    def assert_home(self) -> None:
        """Everything that was promised has ended once, and nothing is left of anything else."""
        assert self.desk.complaints() == []
        assert not self.core
        assert not self.stores
        assert not any(isinstance(past.first, Accepted) for past in History(self.durable))
        shown, more = self.desk.books.page(1000, None, None)
        assert not more
        assert {job.id for job in shown} == self._written()
        assert all(job.over for job in shown)
        # whose end is written may be forgotten before anybody was told, by a crash in between
        assert self.promised <= {entry.job for entry in self.durable if isinstance(entry, Ended)}
        assert self.disk == self._referred()
        assert self.at_decoder == self.released


def _media_id(key: str) -> str:
    """From the key in the storage, which also says in which life it was stored."""
    return key.partition("/")[2]
