"""What a leader, the nodes of its instance and their ranks tell each other at the rendezvous.

A message is one frame as in `transfer.codec`; what a leader and a rank tell each other (a frame of
`roles.calls` without its length) is a second frame behind `ToRank` or `FromRank`, which nobody on
the way looks into.

`epoch`: of a node's joining; it grows with each, and what carries another one is dropped. `life`:
of a pool of ranks; ranks of an earlier one find nobody. Units: seconds.
"""

from transfer.codec import Decoder, Message
from transfer.messages import Role

# ---------------------------------------------------------------- nodes to their leader


class Join(Message, frozen=True, tag="join"):
    """The first word of a node, of which no rank is alive. `fingerprint`: of its model's files;
    None if they are not on this disk yet. `software`: the versions of what computes. `devices`: by
    place on the node. `incarnation`: of the process. Answered with `Joined` or `NotJoined`."""

    node: int
    nodes: int
    roles: list[Role]
    incarnation: str
    host: str
    pid: int
    devices: list[str]
    fingerprint: str | None
    software: dict[str, str]


class NodeBeat(Message, frozen=True, tag="node_beat"):
    epoch: int


class RankStarted(Message, frozen=True, tag="rank_started"):
    """Answers `StartRank`. With an `error` there is no such process."""

    epoch: int
    life: int
    rank: int
    pid: int = 0
    error: str | None = None


class FromRank(Message, frozen=True, tag="from_rank"):
    """The frame behind it is what this rank says."""

    epoch: int
    life: int
    rank: int


class RankGone(Message, frozen=True, tag="rank_gone"):
    """The process has ended: `how` as in `roles.leader.process.cause_of_death`."""

    epoch: int
    life: int
    rank: int
    how: str


class Stopping(Message, frozen=True, tag="stopping"):
    """The node was asked to stop: the instance is to finish what it has, and end."""

    epoch: int


# ---------------------------------------------------------------- a leader to its nodes


class Joined(Message, frozen=True, tag="joined"):
    """`beat_s`: both sides beat so often."""

    epoch: int
    beat_s: float


class NotJoined(Message, frozen=True, tag="not_joined"):
    """`final`: it never will; otherwise it may try again."""

    reason: str
    final: bool


class JoinAgain(Message, frozen=True, tag="join_again"):
    """The answer to what carries an epoch that is over."""


class LeaderBeat(Message, frozen=True, tag="leader_beat"):
    epoch: int


class StartRank(Message, frozen=True, tag="start_rank"):
    """Start this rank of `ranks`. All else that it is started with is the node's own to know: what
    it runs, the model's folder, and the device."""

    epoch: int
    life: int
    rank: int
    ranks: int
    parallel: str
    threads: int
    slice_s: float
    rank_timeout_s: float
    encoder_cache: int


class ToRank(Message, frozen=True, tag="to_rank"):
    """The frame behind it is for this rank."""

    epoch: int
    life: int
    rank: int


class SignalRank(Message, frozen=True, tag="signal_rank"):
    epoch: int
    life: int
    rank: int
    number: int


class InstanceReady(Message, frozen=True, tag="instance_ready"):
    """The instance can be given work, under this name."""

    epoch: int
    name: str


class End(Message, frozen=True, tag="end"):
    """The instance ends: end the ranks, and with this exit code."""

    epoch: int
    code: int
    reason: str


# ---------------------------------------------------------------- ranks, and the book of their life


class BookSet(Message, frozen=True, tag="book_set"):
    life: int
    key: str
    value: bytes


class BookGet(Message, frozen=True, tag="book_get"):
    """Answered with the values that are there."""

    life: int
    keys: list[str]


class BookAdd(Message, frozen=True, tag="book_add"):
    """Add to the number that is written there (0 if there is none)."""

    life: int
    key: str
    amount: int


class BookSwap(Message, frozen=True, tag="book_swap"):
    """Write `value` if `expected` is there; if nothing is there, only when nothing is expected.
    Answered with what is there then."""

    life: int
    key: str
    expected: bytes
    value: bytes


class BookDelete(Message, frozen=True, tag="book_delete"):
    life: int
    key: str


class BookCount(Message, frozen=True, tag="book_count"):
    life: int


class Looked(Message, frozen=True, tag="looked"):
    """The answer to each of these. `closed`: that life is over, or the book is full."""

    values: dict[str, bytes] = {}  # noqa: RUF012  # msgspec copies it
    number: int = 0
    closed: bool = False


BookAsk = BookSet | BookGet | BookAdd | BookSwap | BookDelete | BookCount
NodeWord = NodeBeat | RankStarted | FromRank | RankGone | Stopping
LeaderWord = LeaderBeat | StartRank | ToRank | SignalRank | InstanceReady | End

to_hub = Decoder(Join | NodeWord | BookAsk)
to_node = Decoder(Joined | NotJoined | JoinAgain | LeaderWord)
to_rank_store = Decoder(Looked)
