"""The pictures of open jobs: from the desk to the core, into storage, and back when they fail."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from orchestrator.core.commands import Completed, Preview, Progress, Resolve
from orchestrator.core.events import Cancel, Submit
from orchestrator.core.lines import Line
from orchestrator.jobs.case import At, Case, Part
from orchestrator.jobs.commands import Command, Delete, Release, Store
from orchestrator.jobs.entries import Kept
from orchestrator.jobs.events import Stored, StoreFailed
from orchestrator.jobs.lanes import Lane
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.model import JobProgress
from transfer.messages import ErrorInfo
from transfer.priority import RANK

OVERTAKES = 1000  # jobs of the next class that one overtakes: so nobody waits for ever


class News(Protocol):
    """What the desk wants to hear of its pictures."""

    def moved(self, case: Case) -> None:
        """One of its pictures is somewhere else than before."""

    def shows(self, part: Part) -> None:
        """There is a new preview of it."""

    def began(self, part: Part) -> None:
        """An instance began with a new attempt at it."""

    def kept(self, part: Part) -> None:
        """Its files are in durable storage."""

    def failed(self, case: Case, error: ErrorInfo) -> None:
        """One of its pictures will never be there."""


class Pictures:
    """Belongs to the desk, which tells the time (`now`) before each event. `do` takes commands.

    A picture waits in the line, is submitted, computed, stored, and then kept. What comes about one
    that nobody wants any more is let go of.
    """

    def __init__(
        self, limits: Limits, news: News, do: Callable[[Command], None], counters: Counter[str]
    ) -> None:
        self.now = 0.0
        self._limits = limits
        self._news = news
        self._do = do
        self._counters = counters
        self._out: dict[str, Part] = {}  # with the core or the storage, by request
        self._lanes: dict[str, Lane] = {}  # by model, while they are not empty
        self._pauses: Line[Part] = Line()  # parts whose storing is tried again, by time
        self._made = 0

    def owns(self, request: str) -> bool:
        return request in self._out

    @property
    def idle(self) -> bool:
        return not self._out

    def complaints(self) -> list[str]:
        """What does not add up while nothing is under way."""
        found = [f"{len(self._pauses)} left in the pauses"] * bool(len(self._pauses))
        for model, lane in self._lanes.items():
            found += [f"{len(lane)} left in the lane of {model}"] * bool(len(lane))
            found += [f"{lane.ahead} of {model} counted as waiting in the core"] * bool(lane.ahead)
        return found

    def open(self, case: Case) -> None:
        """All pictures of the job wait."""
        assert case.spec is not None
        for index in range(len(case.spec.inputs)):
            self._made += 1
            case.parts.append(Part(case, index, self._made))
        for part in case.parts:
            self.hold(part)

    def restore(self, part: Part, kept: Kept) -> None:
        """The picture was made in an earlier life."""
        self._lane(part).discard(part)
        part.at, part.files, part.timings = At.KEPT, kept.files, kept.timings

    def tick(self) -> None:
        while part := self._pauses.pop_until(self.now):
            self._store(part)

    # ------------------------------------------------------------ the core

    def progressed(self, event: Progress) -> None:
        part = self._out.get(event.request)
        if part is not None:
            self._lane(part).taken()
        if part is None or part.at not in (At.SENT, At.RUNNING):
            return
        self._move(part, At.SENT if event.stage == "queued" else At.RUNNING)
        part.progress = JobProgress(event.stage, event.step, event.steps)
        if part.at is At.RUNNING and event.attempt > part.noted:
            part.attempts = part.noted = event.attempt
            self._news.began(part)
        self._news.moved(part.case)

    def previewed(self, event: Preview) -> None:
        """Only the latest of a picture is kept, and none of one that is not computed any more."""
        part = self._out.get(event.request)
        if part is None or part.at not in (At.SENT, At.RUNNING):
            self._do(Release(event.media))
            return
        self._hide(part)
        part.preview = event.media
        part.shown += 1
        self._news.shows(part)

    def _hide(self, part: Part) -> None:
        preview, part.preview = part.preview, []
        if preview:
            self._do(Release(preview))

    def resolved(self, event: Resolve) -> None:
        part, result = self._out.get(event.request), event.result
        if part is not None:
            self._hide(part)
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
            self._news.failed(part.case, result)

    def rejected(self, request: str) -> None:
        part = self._out.get(request)
        if part is None or part.at is not At.SENT:
            if part is not None and part.at is At.LEAVING:
                del self._out[request]
            return
        self._lane(part).refused(self.now)
        self._come_back(part)
        self.hold(part)
        self._news.moved(part.case)

    def hold(self, part: Part) -> None:
        """Waits at the desk, among the others in the order of acceptance; those of a higher class
        go before the `OVERTAKES` jobs of the next one that were accepted before them."""
        part.at = At.HELD
        part.progress = JobProgress()
        assert part.case.spec is not None
        rank = RANK[part.case.spec.inputs[part.index].priority] - RANK["normal"]
        self._lane(part).hold(part, part.case.number + rank * OVERTAKES)

    def _come_back(self, part: Part) -> None:
        """The core, or the storage, is done with it."""
        del self._out[part.request]
        self._move(part, At.LEAVING)

    def feed(self) -> None:
        """Submits what is held, as far as the core should have it."""
        for model, lane in list(self._lanes.items()):
            while (part := lane.next(self.now)) is not None:
                self._submit(part, model)
            if lane.empty:
                del self._lanes[model]

    def _submit(self, part: Part, model: str) -> None:
        spec = part.case.spec
        assert spec is not None
        self._out[part.request] = part
        self._move(part, At.SENT)
        inputs = spec.inputs[part.index]
        previews = 0 if part.shown else spec.previews  # whoever waits has seen some
        self._do(Submit(part.request, inputs, spec.deadline_s, part.attempts, previews, model))

    def _lane(self, part: Part) -> Lane:
        model = part.case.described.model
        if model not in self._lanes:
            self._lanes[model] = Lane(self._limits)
        return self._lanes[model]

    def _move(self, part: Part, at: At) -> None:
        self._lane(part).ahead += (at is At.SENT) - (part.at is At.SENT)
        part.at = at

    # ------------------------------------------------------------ the storage

    def _store(self, part: Part) -> None:
        self._move(part, At.STORING)
        self._out[part.request] = part
        self._do(Store(part.request, part.media))

    def stored(self, event: Stored) -> None:
        part = self._out.get(event.request)
        if part is None or part.at is not At.STORING:
            if part is not None:
                self._leave_storage(part)
            self._do(Delete(event.files))
            return
        self._come_back(part)
        self._move(part, At.KEPT)
        part.files = event.files
        self._news.kept(part)

    def store_failed(self, event: StoreFailed) -> None:
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
        self._counters["jobs_files_lost"] += 1
        if part.runs >= self._limits.runs:
            self._do(Release(part.media))
            text = f"the finished file was lost {part.runs} times before it was stored: {reason}"
            self._news.failed(part.case, ErrorInfo("instance_lost", text))
            return
        self._do(Release(part.media))  # its instance may be there, and only have been too slow
        part.media, part.timings, part.stores = [], None, 0
        self.hold(part)
        self._news.moved(part.case)

    def _unstorable(self, part: Part, reason: str) -> None:
        part.stores += 1
        if part.stores >= self._limits.stores:
            self._do(Release(part.media))
            text = f"the finished file could not be stored: {reason}"
            self._news.failed(part.case, ErrorInfo("internal", text))
            return
        part.at = At.PAUSING
        pause = self._limits.store_again_s * 2 ** (part.stores - 1)
        self._pauses.put(self.now + pause, part.key, part)

    def release(self, part: Part) -> None:
        """Its files are in durable storage, and the journal says so. What the media store has
        stays where it is."""
        elsewhere = [media for media in part.media if media.store_key is None]
        part.media = []
        if elsewhere:
            self._do(Release(elsewhere))

    # ------------------------------------------------------------ ends

    def drop(self, part: Part) -> None:
        """Whatever is still being done for the part is not wanted any more."""
        match part.at:
            case At.HELD:
                self._lane(part).discard(part)
            case At.PAUSING:
                self._pauses.discard(part.key)
                self._do(Release(part.media))
            case At.SENT | At.RUNNING:
                self._hide(part)
                self._move(part, At.LEAVING)
                self._do(Cancel(part.request, "the job is over"))
            case At.STORING:
                part.at = At.DROPPING
