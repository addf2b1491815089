"""What can happen to the machine. Times are the `now` that comes with each event."""

from transfer.actions import Action
from transfer.messages import (
    Aborted,
    Accepted,
    Answered,
    Delivered,
    Ended,
    Failed,
    Finished,
    Heartbeat,
    Inputs,
    Left,
    Progressed,
    PushFailed,
    Record,
    Register,
    Staged,
    StateChanged,
)

Message = (
    Register
    | Heartbeat
    | StateChanged
    | Accepted
    | Progressed
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


class Submit(Record, frozen=True):
    """A client asks for one generation; its result is due in `deadline_s` seconds.

    `model`: its name; empty: what that means here (`Registry.usual`).
    `attempts`: how many were made before, in an earlier life of the orchestrator. `previews`: how
    many pictures of it half done are wanted, at most.
    """

    request: str
    inputs: Inputs
    deadline_s: float
    attempts: int = 0
    previews: int = 0
    model: str = ""


class Cancel(Record, frozen=True):
    """Nobody wants the result any more."""

    request: str
    reason: str


class Received(Record, frozen=True):
    """A leader's message. `connection` is the identity that the socket gave to its peer."""

    connection: bytes
    message: Message


class Disconnected(Record, frozen=True):
    """The connection is broken: what was sent over it may be lost."""

    connection: bytes


class SenderGone(Record, frozen=True):
    """The process of this instance is proved dead: it will write nowhere any more."""

    name: str
    epoch: int


class DrainInstance(Record, frozen=True):
    """An operator wants the instance to finish what it has and leave."""

    name: str


class RemoveInstance(Record, frozen=True):
    """An operator wants the instance out at once."""

    name: str


class AskInstances(Record, frozen=True):
    """An operator asks something of these instances, and wants the `Answers` of this number within
    `seconds`. Numbers are used once."""

    number: int
    names: list[str]
    action: Action
    seconds: float


class Broken(Record, frozen=True):
    """Handling an event about this request raised `InvalidTransition`: give the request up."""

    request: str
    story: str


class Tick(Record, frozen=True):
    """Time has passed: deadlines, heartbeats, reminders."""


Event = (
    Submit
    | Cancel
    | Received
    | Disconnected
    | SenderGone
    | DrainInstance
    | RemoveInstance
    | AskInstances
    | Broken
    | Tick
)
