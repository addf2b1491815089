"""What the machine wants done. The loop carries it out in order and decides nothing."""

from typing import Literal

from transfer.actions import Told
from transfer.messages import (
    ErrorInfo,
    FromOrchestrator,
    HostInfo,
    InstanceState,
    Media,
    Record,
    Role,
)
from transfer.results import PoolResult, RankError


class Timings(Record, frozen=True, omit_defaults=True):
    """Where one request's seconds went.

    `queue_s`: waiting for an instance with room, here and inside the instances.
    `encoder_s`, `denoiser_s`, `decoder_s`, `monolithic_s`: computing; None (and absent from JSON)
    for a role that is not on the route. `transfer_s`: payloads into and out of slots.
    `total_s`: from acceptance to the result.
    """

    queue_s: float
    transfer_s: float
    total_s: float
    encoder_s: float | None = None
    denoiser_s: float | None = None
    decoder_s: float | None = None
    monolithic_s: float | None = None


class Completed(Record, frozen=True):
    """A finished request: its media (never empty), how many attempts it took, and the model that
    made it."""

    media: list[Media]
    timings: Timings
    attempts: int
    model: str = ""


class QueueFull(Record, frozen=True):
    """Too many requests wait; try again in about `retry_after_s` seconds."""

    retry_after_s: float


class NoRoute(Record, frozen=True):
    """Some roles of the model's route have no ready instance; of those that are `asleep`, one
    sleeps. Of a `model` that is not known, all are missing."""

    missing: list[Role]
    asleep: list[Role] = []  # noqa: RUF012  # msgspec copies it
    model: str = ""


class DuplicateId(Record, frozen=True):
    """A request of this id is still under way."""


Refusal = QueueFull | NoRoute | DuplicateId


class Send(Record, frozen=True):
    """Send `message` over the control connection."""

    connection: bytes
    message: FromOrchestrator


class Resolve(Record, frozen=True):
    """The one and only result of a request that was accepted."""

    request: str
    result: Completed | ErrorInfo


class Reject(Record, frozen=True):
    """A submitted request is not accepted; nothing of it is kept."""

    request: str
    refusal: Refusal


class Progress(Record, frozen=True):
    """Where a request is: the stage that was entered, or a step of it that was finished.

    `stage` is the role that computes, or "queued". `steps` is 0 where the stage counts none.
    """

    request: str
    attempt: int
    stage: Role | Literal["queued"]
    instance: str | None
    step: int
    steps: int


class Preview(Record, frozen=True):
    """A picture of a request that is still under way. Whoever gets it owns its files."""

    request: str
    media: list[Media]


class Discard(Record, frozen=True):
    """Finished files that nobody will ask for: their request is over already."""

    media: list[Media]


class InstanceAnswer(Record, frozen=True):
    """What an instance said to an operator, or what is said in its place, with an `error`, if it
    could not. `state`: its own when it answered."""

    state: InstanceState
    result: PoolResult[Told]
    error: RankError | None = None

    @property
    def ok(self) -> bool:
        """Whether every rank did what it was asked for."""
        return self.error is None and bool(self.result.results) and self.result.ok


class Answers(Record, frozen=True):
    """The one answer to `AskInstances`, by name of instance, in the order in which they were
    asked. `undone`: of a change that did not succeed everywhere: now it has nowhere; False: an
    instance could not go back, and begins anew; None: it is not known yet, or was no change."""

    number: int
    instances: dict[str, InstanceAnswer]
    undone: bool | None = None


class Watch(Record, frozen=True):
    """If the process is on this host, tell with `SenderGone` when it has ended."""

    name: str
    epoch: int
    host: HostInfo


class Log(Record, frozen=True):
    """One line for people."""

    level: Literal["info", "warning", "error"]
    text: str


Command = Send | Resolve | Reject | Progress | Preview | Discard | Answers | Watch | Log
