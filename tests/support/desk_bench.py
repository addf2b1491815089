"""The desk on a bench: what it wants is collected, and the test answers for the others."""

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from orchestrator.core.commands import Completed, Preview, Progress, QueueFull, Reject, Resolve
from orchestrator.core.events import Submit
from orchestrator.jobs.commands import Answer, Command, Store, Write
from orchestrator.jobs.desk import Desk
from orchestrator.jobs.entries import Entry
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
from orchestrator.jobs.model import Idempotency, Job, StoredFile
from tests.support.simulated_desk import TIMINGS, look, picture, spec
from transfer.made import ImageMade
from transfer.messages import ErrorInfo

T = TypeVar("T", bound=Command)


class DeskBench:
    """`journal` has what was written; `automatic` writes succeed at once."""

    def __init__(self, entries: Sequence[Entry] = (), life: int = 0, **limits: Any) -> None:
        self.now = 1000.0
        self.desk = Desk(Limits(**limits))
        self.journal: list[Entry] = list(entries)
        self.automatic = True
        self.wanted: list[Command] = []
        self.feed(Recovered(list(entries), life))

    def feed(self, event: Event) -> None:
        for command in self.desk.handle(event, self.now):
            if isinstance(command, Write) and self.automatic:
                self.write(command)
            else:
                self.wanted.append(command)

    def write(self, write: Write) -> None:
        self.journal.append(write.entry)
        self.feed(Written(write.ticket))

    def fail(self, write: Write) -> None:
        self.feed(WriteFailed(write.ticket, "no space"))

    def take(self, kind: type[T]) -> list[T]:
        """What is wanted of that kind since it was last taken."""
        found = [command for command in self.wanted if isinstance(command, kind)]
        self.wanted = [command for command in self.wanted if not isinstance(command, kind)]
        return found

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    # ------------------------------------------------------------ clients

    def ask(
        self,
        job: str,
        count: int = 1,
        key: str | None = None,
        body: bytes = b"",
        previews: int = 0,
        model: str = "",
    ) -> None:
        idempotency = None if key is None else Idempotency(key, body)
        asked = spec(count, previews=previews)
        asked = replace(asked, described=replace(asked.described, model=model))
        self.feed(JobAsked(7, job, asked, idempotency))

    def cancel(self, job: str) -> None:
        self.feed(CancelAsked(8, job))

    def forget(self, job: str) -> None:
        self.feed(ForgetAsked(9, job))

    def answers(self) -> list[Any]:
        return [answer.reply for answer in self.take(Answer)]

    def job(self, job: str) -> Job:
        found = self.desk.books.find(job)
        assert found is not None
        return found

    # ------------------------------------------------------------ the core and the storage

    def submitted(self) -> list[str]:
        return [submit.request for submit in self.take(Submit)]

    def reject(self, request: str) -> None:
        self.feed(Reject(request, QueueFull(1.0)))

    def queue(self, request: str, attempt: int = 1) -> None:
        self.feed(Progress(request, attempt, "queued", None, 0, 0))

    def run(self, request: str, attempt: int = 1, step: int = 0) -> None:
        self.feed(Progress(request, attempt, "denoiser", "d", step, 9))

    def preview(self, request: str, number: int) -> None:
        self.feed(Preview(request, [look(request, number)]))

    def finish(self, request: str, attempt: int = 1) -> None:
        self.feed(Resolve(request, Completed([picture(request, attempt)], TIMINGS, attempt)))

    def break_down(self, request: str) -> None:
        self.feed(Resolve(request, ErrorInfo("rank_failed", "scripted")))

    def store(self, nbytes: int = 100) -> None:
        """Everything that is to be stored is stored."""
        for store in self.take(Store):
            file = StoredFile(f"state:{store.media[0].id}", ImageMade(), "image/png", nbytes)
            self.feed(Stored(store.request, [file]))

    def store_fails(self, gone: bool) -> None:
        for store in self.take(Store):
            self.feed(StoreFailed(store.request, "scripted", gone))

    def complete(self, job: str, nbytes: int = 100) -> None:
        self.ask(job)
        self.finish(f"{job}-0")
        self.store(nbytes)
