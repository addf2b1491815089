"""What the orchestrator says to a leader."""

from transfer.actions import Action
from transfer.codec import Decoder, Message
from transfer.messages.grant import Delivery, Grant
from transfer.messages.request import Inputs
from transfer.messages.words import Role, Shelf


class Welcome(Message, frozen=True, tag="welcome"):
    name: str
    epoch: int
    heartbeat_s: float


class Refused(Message, frozen=True, tag="refused"):
    """Registration is denied for good; the leader prints the reason and exits."""

    reason: str


class RegisterAgain(Message, frozen=True, tag="register_again"):
    """The orchestrator does not know this connection (it restarted, or gave the instance up)."""


class Beat(Message, frozen=True, tag="beat"):
    """The answer to a Heartbeat."""


class Work(Message, frozen=True, tag="work"):
    """Compute one stage. `delivery`: where the payload lies (None for the first role of a route).
    `grant`: where the result may go (None: stage it, or it is the last role).

    `preview_of`: the request and attempt of which this is only a preview, under an id of its own. A
    denoiser computes nothing for it, and it takes no place there: it makes a payload of what that
    attempt's latents are now. Everybody else does it when nothing else is to be done.

    `previews`: so many will be asked for. A denoiser that takes several steps at a time tells of it
    as soon as one is due (`transfer.previews`).

    `uploads_port`: of the media channel on the orchestrator's host, where what came with the
    request can be read."""

    epoch: int
    request: str
    attempt: int
    role: Role
    last: bool
    inputs: Inputs
    seconds: float
    delivery: Delivery | None = None
    grant: Grant | None = None
    preview_of: tuple[str, int] | None = None
    previews: int = 0
    uploads_port: int | None = None


class Push(Message, frozen=True, tag="push"):
    """Write a payload from the outbox into these slots.

    `held`: the attempt under which it lies there: this one, which has staged it, or an earlier one,
    for which it was delivered and kept; from now on it belongs to this attempt. `checkpoint`: it is
    a checkpoint of the role that comes after `role`, and takes the place of what `role` made.
    `copy`: it is still kept under `held`, and nothing of this attempt is once it is written.
    """

    epoch: int
    request: str
    attempt: int
    role: Role
    held: int
    grant: Grant
    checkpoint: bool = False
    copy: bool = False


class Release(Message, frozen=True, tag="release"):
    """Nobody will ask for these kept payloads again: the role that made each, or "checkpoint";
    request, attempt."""

    epoch: int
    kept: list[tuple[Shelf, str, int]]


class Abort(Message, frozen=True, tag="abort"):
    epoch: int
    request: str
    attempt: int
    reason: str


class Ask(Message, frozen=True, tag="ask"):
    """Something that an operator wants of every rank. Answered with Answered of the same `number`
    within `seconds` of its receipt, however long the ranks take."""

    epoch: int
    number: int
    action: Action
    seconds: float


class Reload(Message, frozen=True, tag="reload"):
    """It is not what the others are: take no more work, begin with new ranks, load nothing of what
    the old ones had."""

    epoch: int
    cause: str


class Drain(Message, frozen=True, tag="drain"):
    """Finish what you have, then leave. `more`: not yet, because some of it may go elsewhere; a
    checkpoint of what runs is wanted, and another Drain will come."""

    more: bool = False


class Close(Message, frozen=True, tag="close"):
    """Leave now."""

    reason: str


FromOrchestrator = (
    Welcome
    | Refused
    | RegisterAgain
    | Beat
    | Work
    | Push
    | Release
    | Abort
    | Drain
    | Close
    | Ask
    | Reload
)

from_orchestrator = Decoder(FromOrchestrator)
