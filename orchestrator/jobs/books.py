"""Every job that the desk knows, by id, by key and in order."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from orchestrator.jobs.case import Case, Phase
from orchestrator.jobs.model import Idempotency, Job, JobEvent, JobStatus


class Books:
    """Jobs become visible when their promise is on disk, and stay so until they are forgotten.

    Looking one up, and telling its position, costs O(log n). `first_event`: the numbers of this
    life's events are above it, and above those of every earlier life.
    """

    def __init__(self) -> None:
        self.first_event = 0
        self._cases: dict[str, Case] = {}
        self._keys: dict[str, str] = {}
        self._visible: list[int] = []  # numbers, ascending
        self._by_number: dict[int, Case] = {}
        self._waiting: dict[str, list[int]] = {}  # by model: jobs that wait, ascending
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._cases)

    def __contains__(self, job: str) -> bool:
        return job in self._cases

    def get(self, job: str) -> Case | None:
        return self._cases.get(job)

    def keyed(self, idempotency: Idempotency | None) -> Case | None:
        """The job that was asked for under this key."""
        job = None if idempotency is None else self._keys.get(idempotency.key)
        return None if job is None else self._cases[job]

    def next_number(self) -> int:
        return self._last_number + 1

    # ------------------------------------------------------------ changes

    def enter(self, case: Case) -> None:
        self._cases[case.id] = case
        self._last_number = max(self._last_number, case.number)
        if case.idempotency is not None:
            self._keys[case.idempotency.key] = case.id

    def show(self, case: Case) -> None:
        """From now on others may see it."""
        self._by_number[case.number] = case
        insort(self._visible, case.number)

    def remove(self, case: Case) -> None:
        del self._cases[case.id]
        if case.idempotency is not None:
            del self._keys[case.idempotency.key]
        if self._by_number.pop(case.number, None) is not None:
            del self._visible[bisect_left(self._visible, case.number)]

    def wait(self, case: Case, waiting: bool) -> None:
        """Whether the job has a place in its model's line, by which positions are told."""
        model = case.described.model
        line = self._waiting.setdefault(model, [])
        if waiting and not case.waiting:
            insort(line, case.number)
        elif case.waiting and not waiting:
            del line[bisect_left(line, case.number)]
        if not line:
            del self._waiting[model]
        case.waiting = waiting

    # ------------------------------------------------------------ what others may see

    def snapshot(self, case: Case) -> Job:
        if not case.waiting:
            return case.snapshot(None)
        return case.snapshot(bisect_left(self._waiting[case.described.model], case.number))

    def find(self, job: str) -> Job | None:
        case = self._cases.get(job)
        return None if case is None or case.phase is Phase.ASKED else self.snapshot(case)

    def newest(self, job: str) -> JobEvent | None:
        """The latest event of the job, with the job as it is now."""
        case = self._cases.get(job)
        return None if case is None or case.phase is Phase.ASKED else self.event(case)

    def event(self, case: Case) -> JobEvent:
        """What there is to tell of the job now, under the number of its latest event."""
        shown = self.snapshot(case)
        return JobEvent(
            case.events, "progress" if shown.status == "running" else shown.status, shown
        )

    def _numbers(self, after: str | None, ascending: bool) -> Iterator[int]:
        place = 0 if ascending else len(self._visible)
        if after is not None:
            if self.find(after) is None:
                raise KeyError(after)
            place = bisect_left(self._visible, self._cases[after].number) + ascending
        return iter(self._visible[place:] if ascending else self._visible[:place][::-1])

    def page(
        self,
        limit: int,
        after: str | None,
        status: JobStatus | None,
        *,
        videos: bool = False,
        ascending: bool = False,
    ) -> tuple[list[Job], bool]:
        """Up to `limit` jobs that come after `after`, the newest first, or the oldest, and whether
        there are more. `videos`: only those. KeyError: there is no job `after`."""
        found: list[Job] = []
        for number in self._numbers(after, ascending):
            case = self._by_number[number]
            if videos and case.described.video is None:
                continue
            job = self.snapshot(case)
            if status is not None and job.status != status:
                continue
            if len(found) == limit:
                return found, True
            found.append(job)
        return found, False
