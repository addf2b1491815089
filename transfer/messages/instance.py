"""What a leader says: of its instance, and of what it was told to do about requests."""

from typing import Literal

from transfer.actions import Adapter, Told, Weights
from transfer.codec import Decoder, Message
from transfer.ends import RankEnd
from transfer.messages.error import ErrorInfo
from transfer.messages.file import Media
from transfer.messages.grant import PoolAddress
from transfer.messages.host import HostInfo, RankInfo
from transfer.messages.model import ModelInfo
from transfer.messages.report import CacheReport, StageReport
from transfer.messages.words import InstanceState, Role
from transfer.results import PoolResult


class Register(Message, frozen=True, tag="register"):
    """A leader introduces itself. `incarnation` is drawn at random by each process; the same
    incarnation may register again (a new connection), another one under a live name is refused.

    Registering again promises that nothing of an older epoch is written any more. `may_land`: the
    generations of grants whose writes failed in this process and may still land (`PushFailed`).
    `adapters`: those that all its ranks have loaded. `parts`: the components that compute in them;
    `weights`: of those that compute with others than the model's own; `adaptable`: the components
    that adapters may change.
    """

    name: str
    incarnation: str
    last_epoch: int
    endpoint: str
    roles: list[Role]
    capacity: dict[Role, int]
    model: ModelInfo
    pool: PoolAddress
    ranks: list[RankInfo]
    host: HostInfo
    media_store: str | None = None
    may_land: list[int] = []  # noqa: RUF012  # msgspec copies it
    adapters: list[Adapter] = []  # noqa: RUF012  # msgspec copies it
    parts: list[str] = []  # noqa: RUF012  # msgspec copies it
    weights: list[Weights] = []  # noqa: RUF012  # msgspec copies it
    adaptable: list[str] = []  # noqa: RUF012  # msgspec copies it


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """`encodings`: how an encoder's cache stands; None if it has none, or nothing is known yet.
    `healthy`: its ranks computed something lately, or have passed a self-test."""

    epoch: int
    encodings: CacheReport | None = None
    healthy: bool = True


class StateChanged(Message, frozen=True, tag="state_changed"):
    """The instance or one of its ranks changed state; `cause` is for people. `warmed`: of one that
    warms up, forwards that are behind it, and how many there are; None: nothing is known.
    `adapters`: those that all its ranks have loaded; `weights`: of the components that compute with
    others than the model's own."""

    epoch: int
    state: InstanceState
    cause: str
    ranks: list[RankInfo]
    warmed: tuple[int, int] | None = None
    adapters: list[Adapter] = []  # noqa: RUF012  # msgspec copies it
    weights: list[Weights] = []  # noqa: RUF012  # msgspec copies it


class Accepted(Message, frozen=True, tag="accepted"):
    """The payload is out of the slots: they are free."""

    epoch: int
    request: str
    attempt: int
    role: Role
    generation: int


class Progressed(Message, frozen=True, tag="progressed"):
    epoch: int
    request: str
    attempt: int
    role: Role
    step: int
    steps: int


class Checkpointed(Message, frozen=True, tag="checkpointed"):
    """The attempt's state at the end of a step lies in the outbox, as a payload of `nbytes` with
    which another attempt can begin the same role. It takes the place of the attempt's earlier ones,
    and is kept until `Release` comes or the sender needs the room."""

    epoch: int
    request: str
    attempt: int
    role: Role
    step: int
    nbytes: int


class Delivered(Message, frozen=True, tag="delivered"):
    """The payload lies in the granted slots, and the sender will not write there again.

    It stays in the sender's outbox as well, for a later attempt, until `Release` comes or the
    sender needs the room.
    """

    epoch: int
    request: str
    attempt: int
    role: Role
    generation: int
    nbytes: int
    checksum: int
    report: StageReport


class Staged(Message, frozen=True, tag="staged"):
    """The stage is computed; its payload waits in the outbox for a grant of `nbytes`.

    `released`: the generation of a grant that was given with the work and was not used (too
    small, too late): the sender will not write there.
    """

    epoch: int
    request: str
    attempt: int
    role: Role
    nbytes: int
    released: int | None
    report: StageReport


class PushFailed(Message, frozen=True, tag="push_failed"):
    """A write failed. `may_land`: bytes of it may still arrive, so the slots are not free.

    The payload of `nbytes` stays in the outbox for another `Push`; 0: it is not there any more.
    """

    epoch: int
    request: str
    attempt: int
    role: Role
    generation: int
    may_land: bool
    nbytes: int
    error: ErrorInfo


class Finished(Message, frozen=True, tag="finished"):
    """The last stage is done. An empty `media` is an error of the sender."""

    epoch: int
    request: str
    attempt: int
    role: Role
    media: list[Media]
    report: StageReport


class Failed(Message, frozen=True, tag="failed"):
    """This attempt ended here; nothing of it is left in this instance. `released` as in Staged."""

    epoch: int
    request: str
    attempt: int
    role: Role
    error: ErrorInfo
    released: int | None = None


class Aborted(Message, frozen=True, tag="aborted"):
    """The answer to Abort: nothing of the attempt goes on here, nothing of it will be written."""

    epoch: int
    request: str
    attempt: int
    released: int | None = None


class Answered(Message, frozen=True, tag="answered"):
    """The answer to Ask: what each rank made of it."""

    epoch: int
    number: int
    result: PoolResult[Told]


class Left(Message, frozen=True, tag="left"):
    """Goodbye: the process ends and writes nowhere any more."""

    epoch: int
    reason: str


class Ended(Message, frozen=True, tag="ended"):
    """The last word, after `Left`: its ranks have ended too, or could not be made to (failed).
    `ranks`: how each of them did, and what it took. `cause` is for people; `seconds`: from the
    first moment of closing."""

    epoch: int
    state: Literal["closed", "failed"]
    cause: str
    ranks: list[RankEnd]
    seconds: float


FromInstance = (
    Register
    | Heartbeat
    | StateChanged
    | Accepted
    | Progressed
    | Checkpointed
    | Delivered
    | Staged
    | PushFailed
    | Finished
    | Failed
    | Aborted
    | Left
    | Answered
    | Ended
)

from_instance = Decoder(FromInstance)
