"""What a client asked for, over all the attempts at it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.core.commands import Timings
from transfer.costs import Workload
from transfer.messages import ErrorInfo, Inputs, Role, StageReport

if TYPE_CHECKING:
    from orchestrator.core.attempts import Attempt
    from orchestrator.core.instances import Instance
    from orchestrator.core.models import Model


LONGEST_LINE = 500  # characters of the history that clients are told


class Kept:
    """A computed payload that still lies in its maker's outbox, under the attempt that it was
    written for, so that a later attempt need not compute it again."""

    __slots__ = ("attempt", "instance", "nbytes")

    def __init__(self, instance: "Instance", attempt: int, nbytes: int) -> None:
        self.instance = instance
        self.attempt = attempt
        self.nbytes = nbytes


class Request:
    """One accepted request, until its client has the answer. No instance of another `model` ever
    has anything of it.

    `order` counts accepted requests, `tries` the attempts for which an instance was given work,
    those of an earlier orchestrator included, and `spared` how many of them do not count against
    it, because they were lost through another request. `kept` has the payloads that a further
    attempt can start from, by stage; `checkpoint` what an instance keeps of the middle of a stage,
    with the number of the stage before, whose payload it stands for; `works` what it asks of each
    role of its route; `due` is its place in the lines: who is due earlier goes first; `avoid` the
    names of instances at which an attempt failed through their own fault; `history` what became of
    the attempts before this one, a line each.

    `numbered` is the highest number that an attempt at it has had; `copy` the attempt that could go
    on from a copy of the checkpoint, at another instance than the one that made it.

    `previews` are asked for, `previewed` of them are made, under way or too late; `preview` is the
    attempt at the one under way. A preview is a request of its own, of the lowest class;
    `preview_of` is the attempt that it shows.
    """

    __slots__ = (
        "asked_s",
        "attempt",
        "avoid",
        "checkpoint",
        "copy",
        "deadline",
        "due",
        "history",
        "id",
        "inputs",
        "kept",
        "model",
        "numbered",
        "order",
        "preview",
        "preview_of",
        "previewed",
        "previews",
        "queue_s",
        "reports",
        "route",
        "spared",
        "story",
        "submitted",
        "tries",
        "works",
    )

    def __init__(
        self,
        id: str,
        order: int,
        model: "Model",
        inputs: Inputs,
        route: tuple[Role, ...],
        now: float,
        deadline_s: float,
        tries: int = 0,
        works: dict[Role, Workload] | None = None,
    ) -> None:
        self.id = id
        self.order = order
        self.model = model
        self.inputs = inputs
        self.route = route
        self.submitted = now
        self.asked_s = deadline_s
        self.deadline = now + deadline_s
        self.tries = tries
        self.spared = 0
        self.works = works or {}
        self.due = now
        self.attempt: Attempt | None = None
        self.kept: dict[int, Kept] = {}
        self.checkpoint: tuple[int, Kept] | None = None
        self.copy: Attempt | None = None
        self.numbered = 0
        self.avoid: set[str] = set()
        self.history: list[str] = []
        self.queue_s = 0.0
        self.previews = self.previewed = 0
        self.preview: Attempt | None = None
        self.preview_of: Attempt | None = None
        self.reports: dict[Role, StageReport] = {}
        self.story: list[tuple[float, str]] = []

    def note(self, now: float, text: str) -> None:
        """Adds a line to the story."""
        self.story.append((now, text))

    def tell(self) -> str:
        """The story so far, a line for each move, in seconds since the request came."""
        return "\n".join(
            [f"request {self.id}, {self.model}, route {'→'.join(self.route)}", *self._lines()]
        )

    def _lines(self) -> Iterator[str]:
        yield "  +0.000 accepted"
        for at, text in self.story:
            yield f"  +{at - self.submitted:.3f} {text}".rstrip()

    def remember(self, error: ErrorInfo) -> None:
        """An attempt has failed, and another one follows."""
        where = f" at {error.instance}" if error.instance else ""
        text = f"attempt {self.tries}{where}: {error.kind}: {error.message}"
        self.history.append(text[:LONGEST_LINE])

    def report(self, role: Role, report: StageReport) -> None:
        """Keeps what a stage took. A payload that was staged is reported again when it is
        delivered: the larger figure of each counts."""
        known = self.reports.get(role, StageReport())
        self.reports[role] = StageReport(
            wait_s=max(known.wait_s, report.wait_s),
            read_s=max(known.read_s, report.read_s),
            compute_s=max(known.compute_s, report.compute_s),
            write_s=max(known.write_s, report.write_s),
            steps=max(known.steps, report.steps),
            busy_s=max(known.busy_s, report.busy_s),
        )

    def timings(self, now: float) -> Timings:
        reports = self.reports.values()
        return Timings(
            queue_s=self.queue_s + sum(r.wait_s for r in reports),
            transfer_s=sum(r.read_s + r.write_s for r in reports),
            total_s=now - self.submitted,
            encoder_s=self._computed("encoder"),
            denoiser_s=self._computed("denoiser"),
            decoder_s=self._computed("decoder"),
            monolithic_s=self._computed("monolithic"),
        )

    def _computed(self, role: Role) -> float | None:
        if role not in self.route:
            return None
        return self.reports.get(role, StageReport()).compute_s
