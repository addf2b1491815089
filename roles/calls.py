"""What a leader asks of its ranks, what they answer, and how both are framed.

Every call goes to every rank of the instance, which works on one at a time in the order in which
they came, and answers each with one `Reply` that repeats its number, `call` (the pool gives it).
Only `Collect` does not keep the others waiting. What a rank has to say before it answers is a
`Meanwhile`.
A frame on the socketpair is its length (four bytes, little endian) and a message as in
`transfer.codec`.

Units: seconds, bytes. A `Key` is (request, attempt).
"""

import struct
from collections.abc import Iterator
from typing import Literal

from roles.origins import Origins
from transfer.actions import Action, Told
from transfer.codec import MAX_FRAME_BYTES, Decoder, Message, ProtocolError, encode
from transfer.made import Made
from transfer.messages import (
    CacheReport,
    DecodedIn,
    Delivery,
    ErrorInfo,
    Inputs,
    ModelInfo,
    Record,
    Role,
    Speed,
    Upload,
)
from transfer.results import RankError

Key = tuple[str, int]
Unit = Literal["begin", "encode", "step", "decode"]
Groups = tuple[tuple[Key, ...], ...]

MAX_TRACEBACK = 16_000  # characters; the end of it is what tells

# ---------------------------------------------------------------- calls


class Load(Message, frozen=True, tag="load"):
    """The first call: load the model's part for these roles, each rank onto its own device.
    `speed`: None runs it as the plain pipeline does; `origins`: None if the model is all that its
    name says. Answered with `Loaded`."""

    model: str
    roles: list[Role]
    dtype: str
    call: int = 0
    speed: Speed | None = None
    origins: Origins | None = None


class Warm(Message, frozen=True, tag="warm"):
    """Run the transformer once with made-up inputs, for one request and for two, so that what is
    compiled is compiled, and what cannot run here is found. Answered with None."""

    call: int = 0


class InputFile(Record, frozen=True):
    """What came with a request, in a descriptor `fd` of the leader, open until the call is
    answered."""

    upload: Upload
    pid: int
    fd: int


class Begin(Message, frozen=True, tag="begin"):
    """Take a request in: copy its payload out of the slots, and prepare what can be prepared.
    `previews` will be asked for: a turn ends when one is due. `files`: what came with it, where the
    pipeline begins here.

    Answered with `Outcomes`, whose one outcome is not done: `Run` goes on with the request.
    """

    request: str
    attempt: int
    role: Role
    inputs: Inputs
    delivery: Delivery | None
    call: int = 0
    previews: int = 0
    files: list[InputFile] = []  # noqa: RUF012  # msgspec copies it


class Peek(Message, frozen=True, tag="peek"):
    """Make a payload for the decoder of what the request `of` is like now, between two steps of its
    denoising, which goes on as if nothing had happened. Under this call's own key it waits for
    `Store`, or `Drop`. Answered with `Outcomes`.
    """

    request: str
    attempt: int
    of: str
    of_attempt: int
    call: int = 0


class Run(Message, frozen=True, tag="run"):
    """One unit of work for requests that have begun: a whole encode or decode, or one step: its
    transformer calls and the pipeline's own code. A rank that is alone takes step after step for a
    while (`slice_s`), until another call waits.

    The requests of a group share their forwards: their batch keys are equal. `share`: so many calls
    go into one forward at most, those of branches of guidance included; 0: as many as there are.
    Of those in `marked` a checkpoint is made at the end of the step that they are in. Answered with
    `Outcomes`, one for each request in order.
    """

    unit: Unit
    groups: Groups
    call: int = 0
    share: int = 0
    marked: list[Key] = []  # noqa: RUF012  # msgspec copies it


class Store(Message, frozen=True, tag="store"):
    """Write the finished payload into these outbox slots and forget the request; or its latest
    `checkpoint`, and go on with it. Answered with `Stored`; the leader writes the header."""

    request: str
    attempt: int
    slots: list[int]
    call: int = 0
    checkpoint: bool = False


class Collect(Message, frozen=True, tag="collect"):
    """Give the finished files of a request that is done. They are made beside the rank's other
    work: this is answered with `Outcomes` when they are there, and calls that came later may be
    answered before."""

    request: str
    attempt: int
    call: int = 0


class Drop(Message, frozen=True, tag="drop"):
    """Forget everything about a request, known or not. Answered with None."""

    request: str
    attempt: int
    call: int = 0


class Pause(Message, frozen=True, tag="pause"):
    """Something else is wanted: a rank that takes several steps at a time ends with the one that it
    is in, because it sees that a call waits. Answered with None."""

    call: int = 0


class Act(Message, frozen=True, tag="act"):
    """Something that an operator wants. Answered with what belongs to its method, in `Told`."""

    action: Action
    call: int = 0


class Shutdown(Message, frozen=True, tag="shutdown"):
    """End the process. Answered by ending."""

    call: int = 0


# ---------------------------------------------------------------- replies


class MediaFile(Record, frozen=True):
    """A finished file without a name: descriptor `fd` of the rank, open until `Drop`. The rest is
    as in `transfer.messages.Media`."""

    fd: int
    made: Made
    mime: str
    nbytes: int
    speed: str | None = None
    decoded_in: DecodedIn = None
    seed: int | None = None


class Measured(Record, frozen=True):
    """What a turn of steps told of its forwards, for whoever decides how many shall share one.

    `key`: of the requests' forwards (`roles.split.denoising.batching.key_of`). `seconds`: of the
    fastest forward of `size` calls, with what the pipelines do between two; None if none was clean.
    `most`: no more than so many may share a forward, for want of memory, or because it goes wrong.
    """

    key: str
    size: int
    seconds: float | None
    most: int | None = None


class Marked(Record, frozen=True):
    """A checkpoint of `nbytes` at the end of this step waits for `Store`. `why_not`: there is none,
    and never will be, because the request cannot go on from the middle of its loop."""

    step: int
    nbytes: int = 0
    why_not: str | None = None


class Outcome(Record, frozen=True):
    """What a unit did to one request. With an `error` the rank has already forgotten the request.

    When `done`, either a payload of `nbytes` waits for `Store`, or finished files for `Collect`,
    whose outcome has them as `media`; they are open until `Drop`.
    The seconds are those of this unit in one rank: `read_s` for copying the payload out,
    `compute_s` in the pipeline and in encoding media, in full for each request of a group.

    `batch_key`: requests with the same may share their next forward; None: this one runs alone.
    `branches`: calls with that key that wait together, which may share one too.
    `measured`: what is to be learned of the turn; in the first outcome of each group only.
    `encodings`: how the encoder's cache stands after an encode.
    `checkpoint`: what came of a mark, once.
    """

    request: str
    attempt: int
    error: ErrorInfo | None = None
    done: bool = False
    step: int = 0
    steps: int = 0
    nbytes: int | None = None
    media: list[MediaFile] | None = None
    read_s: float = 0.0
    compute_s: float = 0.0
    batch_key: str | None = None
    measured: Measured | None = None
    encodings: CacheReport | None = None
    branches: int = 1
    checkpoint: Marked | None = None


class Loaded(Record, frozen=True, tag="loaded"):
    """`parts`: the components whose weights were read, and can be replaced; `adaptable`: those that
    LoRA adapters may change."""

    info: ModelInfo
    parts: list[str] = []  # noqa: RUF012  # msgspec copies it
    adaptable: list[str] = []  # noqa: RUF012  # msgspec copies it


class Outcomes(Record, frozen=True, tag="outcomes"):
    outcomes: list[Outcome]


class Stored(Record, frozen=True, tag="stored"):
    """`checksum` of the body as in `transfer.payload`; None from all ranks but the first, which
    alone writes."""

    checksum: int | None


Value = Loaded | Outcomes | Stored | Told | None


class Reply(Message, frozen=True, tag="reply"):
    """One rank's answer to one call."""

    call: int
    ok: bool
    value: Value = None
    error: RankError | None = None
    seconds: float = 0.0


class StepDone(Record, frozen=True):
    """`step` of `steps` of this request are complete."""

    request: str
    attempt: int
    step: int
    steps: int


class Meanwhile(Message, frozen=True, tag="meanwhile"):
    """How far the first rank is with a call that it has not answered yet; nothing depends on it.

    `steps`: of the requests of a `Run` that takes several steps, ten times a second at most.
    `warmed`: forwards of a `Warm` that have run, and how many there are, skipped ones included.
    """

    call: int
    steps: list[StepDone] = []  # noqa: RUF012  # msgspec copies it
    warmed: tuple[int, int] | None = None


Call = Load | Warm | Begin | Peek | Run | Store | Collect | Drop | Pause | Act | Shutdown

call_decoder = Decoder(Call)
reply_decoder = Decoder(Reply | Meanwhile)

# ---------------------------------------------------------------- frames

_LENGTH = struct.Struct("<I")


def frame(message: Message) -> bytes:
    """A message as it goes through the socketpair."""
    return framed(encode(message))


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def body_of(frame: bytes) -> bytes:
    """The message's bytes, as `Frames` gives them."""
    return frame[_LENGTH.size :]


class Frames:
    """Cuts what a socket brings back into messages' bytes.

    `feed` whatever arrived; it yields each complete frame, good until the next `feed`. Raises
    `ProtocolError` on a length beyond `MAX_FRAME_BYTES`: nothing after it can be trusted.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._rest)
            if size > MAX_FRAME_BYTES:
                raise ProtocolError("size", f"a frame of {size} bytes from the other side")
            end = _LENGTH.size + size
            if len(self._rest) < end:
                return
            body = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield body


def shorten(text: str) -> str:
    """The end of a text of somebody else, a traceback mostly: short enough for every message that
    carries it, and with nothing in it that cannot be encoded."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TRACEBACK else "…" + text[-MAX_TRACEBACK:]
