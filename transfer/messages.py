"""Every message between the orchestrator and the leaders, and on the media channel.

Naming: what a leader says is in the past tense (Delivered, Failed), what the orchestrator says is a
noun or an imperative (Work, Push). Everything about a request carries `request` and `attempt`;
everything that a leader says after Welcome carries the `epoch` that Welcome gave, and so does what
it is told to do about a request.

Units: seconds (float), bytes (int). `*_s` is a duration, never a point on somebody's clock.
"""

from typing import Literal

import msgspec

from transfer.actions import Action, Adapter, Told, Weights
from transfer.codec import Decoder, Message
from transfer.codec import Record as Record
from transfer.ends import RankEnd
from transfer.made import Made, RateFrom
from transfer.results import PoolResult

Role = Literal["encoder", "denoiser", "decoder", "monolithic"]
ROLES: tuple[Role, ...] = ("encoder", "denoiser", "decoder", "monolithic")
Shelf = Role | Literal["checkpoint"]
"""What is kept in an outbox: the payload that a role made, or a checkpoint of its work."""
SPLIT_ROUTE: tuple[Role, ...] = ("encoder", "denoiser", "decoder")
DENOISES: frozenset[Role] = frozenset({"denoiser", "monolithic"})  # runs the transformer
DECODES: frozenset[Role] = frozenset({"decoder", "monolithic"})  # runs the VAE's decoder

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

Scalar = None | bool | int | float | str
Params = dict[str, Scalar | list[Scalar | list[Scalar]]]

InstanceState = Literal[
    "starting",
    "warming",
    "ready",
    "draining",
    "sleeping",
    "divergent",
    "closing",
    "closed",
    "failed",
]
RankState = Literal["starting", "ready", "sleeping", "dead"]


# ---------------------------------------------------------------- what a request is


class Output(Record, frozen=True):
    """How the media are to be encoded."""

    format: Literal["png", "jpeg", "webp", "mp4", "wav", "flac", "zip", "json"] = "png"
    quality: int | None = None  # 0-100, of jpeg and webp; None: the codec's default
    fps: float | None = None  # of a video whose pipeline takes none; None: as the pipeline says


StepCacheType = Literal["none", "first_block", "taylorseer", "pyramid"]


class StepCache(Record, frozen=True):
    """Parts of the transformer that are not computed in every step of a request, but taken from the
    step before: faster, and other pixels. `transfer.speed` says what each type reads.

    `none` switches off what the denoiser would do by itself. `threshold`: how much the first
    block's output may have changed, relative to it. `interval`: computed every so many steps.
    """

    type: StepCacheType
    threshold: float | None = None
    interval: int | None = None


class Lora(Record, frozen=True):
    """An adapter that a request has on, and how much of it."""

    name: str
    scale: float = 1.0


MediaKind = Literal["picture", "film", "sound"]


class Upload(Record, frozen=True):
    """A picture, a film or a sound that a client gave, where it goes, and what tells that it is the
    one: its SHA-256 in hexadecimal. `mask`: white is what is to change, or, of a picture, what is
    transparent, if anything is."""

    param: str
    hash: str
    nbytes: int
    mask: bool = False
    kind: MediaKind = "picture"


class Inputs(Record, frozen=True):
    """One generation: the keyword arguments of the pipeline's own `__call__`, and ours.

    `params` holds only what the request gave: what is left out keeps the pipeline's default.
    `seed` means `generator=torch.Generator("cpu").manual_seed(seed)`. `priority`: those of a lower
    class give way between two steps. `loras`: the adapters that it has on, all of them.
    `uploads`: the media that came with it; of several for one argument the first comes first, or
    each is named by where it stands: `image.0.1` is the second one in the first row, and None among
    `params` stands for a place in a row without a picture. `Structure` has the names of objects.
    """

    params: Params
    seed: int
    output: Output = Output()
    exact: bool = False
    step_cache: StepCache | None = None  # None: as the denoiser was started
    priority: Priority = "normal"
    loras: list[Lora] = []  # noqa: RUF012  # msgspec copies it
    uploads: list[Upload] = []  # noqa: RUF012  # msgspec copies it


class ErrorInfo(Record, frozen=True):
    """What went wrong, where. `kind` decides the HTTP status.

    invalid_request 400 (param: the field), unsupported 422, payload 500, rank_failed 500,
    rank_died 500, stalled 504, transfer_failed 500, instance_lost 503, deadline 504,
    cancelled 499, payload_too_large 413, internal 500.

    `history`: what became of the attempts before the one that failed so, a line each.
    `bystander`: the request was in the memory of a rank that died while it worked on another one.
    """

    kind: Literal[
        "invalid_request",
        "unsupported",
        "payload",
        "payload_too_large",
        "rank_failed",
        "rank_died",
        "stalled",
        "transfer_failed",
        "instance_lost",
        "deadline",
        "cancelled",
        "internal",
    ]
    message: str
    param: str | None = None
    instance: str | None = None
    rank: int | None = None
    traceback: str | None = None
    history: list[str] = []  # noqa: RUF012  # msgspec copies it
    bystander: bool = False

    def but(self, **changes: object) -> "ErrorInfo":
        """The same error with some fields changed."""
        return msgspec.structs.replace(self, **changes)


DecodedIn = Literal["slices", "tiles"] | None


class LocalFile(Record, frozen=True):
    """A file that a process holds open, which one of the same user on the same host can open as
    /proc/PID/fd/FD.

    `badge`: another descriptor of that process, which is named after `nonce`; whoever opens the
    file compares, so a recycled pid or another host's pid is never mistaken for the owner. The
    rest says which file it is, so neither is a recycled descriptor, nor one that was written to.
    """

    pid: int
    fd: int
    badge: int
    nonce: str
    device: int
    inode: int
    modified_ns: int


class Media(Record, frozen=True):
    """One finished file, and what is in it. It lies at the instance that made it (read over the
    media channel at `endpoint`, or on the same host as `local` says, then released), or, if
    `store_key` is set, in the media store.

    `decoded_in`: not in one, for want of memory or to share it out; tiles change pixels. `seed`:
    what it was made with.
    """

    id: str
    made: Made
    mime: str
    nbytes: int
    endpoint: str | None = None
    store_key: str | None = None
    local: LocalFile | None = None
    speed: str | None = None  # what made it faster and its pixels other ones, for people
    decoded_in: DecodedIn = None
    seed: int | None = None


class StageReport(Record, frozen=True):
    """Where an instance spent its seconds on one stage of one request.

    `busy_s`: how long its ranks were busy with it, where a forward that k requests shared counts
    1/k for each; `compute_s` counts it in full.
    """

    wait_s: float = 0.0  # accepted, but the ranks were busy with others
    read_s: float = 0.0  # payload out of the slots
    compute_s: float = 0.0
    write_s: float = 0.0  # payload into the outbox and into the receiver's slots
    steps: int = 0
    busy_s: float = 0.0


class CacheReport(Record, frozen=True):
    """A cache as it stands. Hits and misses since its rank started; bytes of its device."""

    hits: int
    misses: int
    entries: int
    nbytes: int
    limit: int


# ---------------------------------------------------------------- slots and grants


class ShmAddress(Record, frozen=True):
    """A memfd that a process of the same user on the same host can open as /proc/PID/fd/FD.

    The segment begins with `nonce`; whoever opens it compares, so a recycled pid or another
    host's pid is never mistaken for the owner.
    """

    pid: int
    fd: int
    nonce: bytes
    nbytes: int


class MooncakeAddress(Record, frozen=True):
    """The session of the owner's transfer engine, and the registered base address."""

    session: str
    base: int


class PoolAddress(Record, frozen=True):
    """An instance's slots, and the ways to write to them. Slot i begins at
    `offset + i * slot_bytes` of the segment."""

    slots: int
    slot_bytes: int
    offset: int
    shm: ShmAddress | None = None
    mooncake: MooncakeAddress | None = None


class Grant(Record, frozen=True):
    """The permission to write one request's payload into given slots of a receiver.

    `generation` is unique among all grants of the orchestrator's life. `seconds` after its
    receipt the grant is void: the sender starts no write then.
    """

    request: str
    attempt: int
    generation: int
    receiver: str
    receiver_epoch: int
    slots: list[int]
    seconds: float
    pool: PoolAddress


class Delivery(Record, frozen=True):
    """What lies in the receiver's slots for this request, as its sender described it."""

    generation: int
    slots: list[int]
    nbytes: int
    checksum: int


# ---------------------------------------------------------------- who an instance is


class RankInfo(Record, frozen=True):
    rank: int
    pid: int
    state: RankState
    device: str = "cpu"
    host: str = ""


class HostInfo(Record, frozen=True):
    """Which process this is: enough to know, on the same host, whether it still lives.

    `start_ticks`: when it began, in clock ticks since boot, so that setting the clock changes
    nothing (`transfer.processes`).
    """

    hostname: str
    boot_id: str
    pid: int
    start_ticks: int


class Parameter(Record, frozen=True):
    """One argument of the pipeline's `__call__`."""

    name: str
    type: str
    required: bool
    default: Scalar = None


class MediaField(Record, frozen=True):
    """One field of a structure that is made of media, and of which kinds it may be."""

    name: str
    kinds: list[MediaKind]
    required: bool


class Structure(Record, frozen=True):
    """An argument of the pipeline's `__call__` that is an object of a class of its own, or a list
    of those (`several`): its plain fields, and those made of media.

    A request names each by where it stands: `conditions.0.strength` among its `params`,
    `conditions.0.frames` among its `uploads`; of one that is not `several`, `action.mode`.
    """

    name: str
    type: str
    several: bool
    required: bool
    fields: list[Parameter]
    media: list[MediaField]


class Speed(Record, frozen=True):
    """How a denoiser runs its transformer, where that is not the plain pipeline's way.

    `step_cache`: of requests that ask for none themselves. `context`: among how many ranks the
    tokens of a forward are divided, and how: ulysses=2. What is not a default here changes the
    pixels, but for `dtype`, which is the plain pipeline's own argument.
    """

    dtype: str = "auto"
    compile: bool = False
    attention: str | None = None
    quantize: str | None = None
    step_cache: StepCache | None = None
    context: str | None = None


class Replaced(Record, frozen=True):
    """A component that is not the model's own. `source`: from where, as the role was told;
    `fingerprint`: of its contents."""

    component: str
    source: str
    fingerprint: str


class ModelInfo(Record, frozen=True):
    """What the roles know of their model. All its instances behind one front door agree on
    `fingerprint`, all that denoise on `speed`; the others have none. `step_caches`: the types that
    a request may ask for. `fps`: of a video, where the request says nothing. `frames_step`: it has
    a multiple of so many frames, and one. `sample_rate`: of what it makes to hear, in Hz; None:
    nothing in it tells. `pictures`, `films`, `sounds`: the arguments that take some. `needs`:
    those of them that a request has to bring. `generates`: components of the encoder role that
    write something, a token at a time, when the pipeline asks them to. `named`: its name was given
    to it, and is not merely that of a folder, which may be another one on another host.
    `revision`: the commit of a hub's model. `replaced`: components that come from elsewhere;
    `fingerprint` covers them. `structures`: the arguments that are objects."""

    name: str
    pipeline: str
    fingerprint: str
    modality: Literal["image", "video", "audio"]
    parameters: list[Parameter]
    default_size: tuple[int, int] | None = None  # (width, height)
    size_multiple: int = 1
    splittable: bool = True
    why_not: str | None = None
    speed: Speed | None = None
    step_caches: list[StepCacheType] = []  # noqa: RUF012  # msgspec copies it
    fps: float | None = None
    fps_from: RateFrom | None = None
    frames_step: int = 1
    sample_rate: int | None = None
    pictures: list[str] = []  # noqa: RUF012  # msgspec copies it
    generates: list[str] = []  # noqa: RUF012  # msgspec copies it
    films: list[str] = []  # noqa: RUF012  # msgspec copies it
    sounds: list[str] = []  # noqa: RUF012  # msgspec copies it
    needs: list[str] = []  # noqa: RUF012  # msgspec copies it
    named: bool = False
    revision: str | None = None
    replaced: list[Replaced] = []  # noqa: RUF012  # msgspec copies it
    structures: list[Structure] = []  # noqa: RUF012  # msgspec copies it

    def media(self) -> dict[str, MediaKind]:
        """The arguments that take media, and of which kind."""
        found: dict[str, MediaKind] = dict.fromkeys(self.pictures, "picture")
        return found | dict.fromkeys(self.films, "film") | dict.fromkeys(self.sounds, "sound")


class Register(Message, frozen=True, tag="register"):
    """A leader introduces itself. `incarnation` is drawn at random by each process; the same
    incarnation may register again (a new connection), another one under a live name is refused.

    Registering again promises that nothing of an older epoch is written any more. `may_land`: the
    generations of grants whose writes failed in this process and may still land (`PushFailed`).
    `adapters`: those that all its ranks have loaded. `parts`: the components that compute in them;
    `weights`: of those that compute with others than the model's own.
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

from_instance = Decoder(FromInstance)
from_orchestrator = Decoder(FromOrchestrator)


# ---------------------------------------------------------------- the media channel


class MediaRead(Message, frozen=True, tag="media_read"):
    """Asks an instance's endpoint for a piece of a finished file (at most 1 MiB)."""

    id: str
    offset: int
    length: int


class MediaRelease(Message, frozen=True, tag="media_release"):
    """The file is no longer needed."""

    id: str


class MediaChunk(Message, frozen=True, tag="media_chunk"):
    id: str
    offset: int
    data: bytes


class MediaGone(Message, frozen=True, tag="media_gone"):
    id: str
    reason: str


ToMedia = MediaRead | MediaRelease
FromMedia = MediaChunk | MediaGone

to_media = Decoder(ToMedia)
from_media = Decoder(FromMedia)
