"""What an operator may ask of instances, `POST /v1/cluster/rpc`: each method and its answer.

The same Struct goes from the front door to the orchestrator, to the leaders, and to every rank.
Units: bytes, seconds.
"""

from typing import Annotated, Literal

from msgspec import Meta

from transfer.codec import Record

# ---------------------------------------------------------------- what is asked


AdapterName = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
"""It names modules of torch, which know no dots."""


class Health(Record, frozen=True, tag="health"):
    """How a rank is. One that computed nothing lately tests itself first."""


class LoadLora(Record, frozen=True, tag="load_lora"):
    """Load the adapter at `path`, a .safetensors file or a folder with one, where all see it whom
    it concerns: denoisers, and encoders that have what adapters change. From then on requests that
    name none have it on, `scale` of it; 0: only those that name it. Of one that is loaded already,
    only the scale changes."""

    name: AdapterName
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0


class UnloadLora(Record, frozen=True, tag="unload_lora"):
    """Unload it, once the requests that have it on are done."""

    name: str


class Adapter(Record, frozen=True):
    """One that all have who take any. `digest`: of its file's bytes."""

    name: str
    path: str
    scale: float
    digest: str


class ListLoras(Record, frozen=True, tag="list_loras"):
    """The adapters that each rank has loaded."""


class Sleep(Record, frozen=True, tag="sleep"):
    """Once nothing is under way there: free the device, and take no work until `Wake`. `level` 1
    moves the weights to the host's memory, 2 drops them: they are read from disk again."""

    level: Literal[1, 2] = 1


class Wake(Record, frozen=True, tag="wake"):
    """Take the weights back, and work again."""


Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""Of a component's weights: what `sha256sum *.safetensors | sha256sum` prints in its folder."""


class UpdateWeights(Record, frozen=True, tag="update_weights"):
    """Read other weights from `path`, a model's folder or that of one component, and put them in
    the place of those that compute now. `checksum`: of one component, or of each by its name; what
    the files have to be. `components`: those to change; none: all that the target computes with and
    the folder has."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    checksum: Sha256 | dict[str, Sha256] | None = None
    components: list[str] = []  # noqa: RUF012  # msgspec copies it


class Profile(Record, frozen=True, tag="profile"):
    """Record what each rank computes, and how long that takes. `record` does so for `seconds` and
    answers then; `start` answers at once, and `stop` with what was recorded until then, or until
    `seconds` were over. `path`: the folder for the traces, on each rank's host; none: a new one."""

    action: Literal["record", "start", "stop"] = "record"
    seconds: Annotated[float, Meta(gt=0, le=120)] = 10.0
    path: Annotated[str, Meta(max_length=4096)] = ""


class Weights(Record, frozen=True):
    """What a component computes with: the weights in `path`, its folder, whose checksum is
    `digest`. Both are empty of those that it was started with."""

    component: str
    path: str = ""
    digest: str = ""


class PutWeights(Record, frozen=True, tag="put_weights"):
    """Compute with these: what others have, or what was before. Not asked for by operators."""

    weights: list[Weights]


Action = (
    Health | LoadLora | UnloadLora | ListLoras | Sleep | Wake | UpdateWeights | PutWeights | Profile
)
Change = LoadLora | UnloadLora | Sleep | Wake | UpdateWeights | PutWeights
"""What all ranks do, or none."""

METHODS: dict[str, type[Action]] = {
    "health": Health,
    "load_lora": LoadLora,
    "unload_lora": UnloadLora,
    "list_loras": ListLoras,
    "sleep": Sleep,
    "wake": Wake,
    "update_weights": UpdateWeights,
    "profile": Profile,
}
"""By name, as in HTTP."""

# ---------------------------------------------------------------- what is answered


class HealthReport(Record, frozen=True, tag="health"):
    """`computed_s`: so long ago it last computed for a request; None: never. `tested`: it computed
    nothing lately, so it did for this answer, and rightly. `requests`: in its memory.
    `host_bytes`: of its process; `device_bytes`: allocated on its device, of `device_total_bytes`;
    None on a CPU."""

    device: str
    computed_s: float | None
    tested: bool
    requests: int
    host_bytes: int
    device_bytes: int | None = None
    device_total_bytes: int | None = None


class LoraFile(Record, frozen=True):
    """An adapter that a rank has loaded. `digest`: of the bytes of its file, by which all ranks are
    compared. `parts`: the components that it changes in this rank; none if it is for others."""

    name: str
    path: str
    digest: str
    nbytes: int
    parts: list[str]


class LoraLoaded(Record, frozen=True, tag="lora_loaded"):
    """`fresh`: it was not loaded before."""

    lora: LoraFile
    fresh: bool = True


class LoraUnloaded(Record, frozen=True, tag="lora_unloaded"):
    """`found`: it was loaded."""

    name: str
    found: bool


class Loras(Record, frozen=True, tag="loras"):
    loras: list[LoraFile]


class Slept(Record, frozen=True, tag="slept"):
    """`fresh`: it was awake. `device_bytes` were freed on its device, 0 on a CPU; `host_bytes` in
    the memory of its process, negative where weights have moved there. Both are measured."""

    level: int
    fresh: bool
    device_bytes: int
    host_bytes: int


class Woken(Record, frozen=True, tag="woken"):
    """`level`: at which it slept; 0: it was awake. `device_bytes`: what it took of its device."""

    level: int
    device_bytes: int


class WeightsFile(Record, frozen=True):
    """What a component computes with now; `nbytes` of its files, 0 if none was read."""

    component: str
    path: str
    digest: str
    nbytes: int


class WeightsUpdated(Record, frozen=True, tag="weights_updated"):
    """Of the components that this rank computes with. `fresh`: some had other weights before."""

    weights: list[WeightsFile]
    fresh: bool


class OpTime(Record, frozen=True):
    """An operator: how often it ran, and its seconds without those of the operators within it, on
    the CPU and on the device."""

    name: str
    calls: int
    cpu_s: float
    device_s: float


class Profiled(Record, frozen=True, tag="profiled"):
    """`file`: the trace, for chrome://tracing or Perfetto, once `recording` is over; `seconds` that
    it covers. `top`: the operators that took most of them."""

    recording: bool
    file: str
    seconds: float
    top: list[OpTime]


Told = HealthReport | LoraLoaded | LoraUnloaded | Loras | Slept | Woken | WeightsUpdated | Profiled


def method_of(action: Action) -> str:
    """The name of its method."""
    if isinstance(action, PutWeights):
        return "put_weights"
    return next(name for name, kind in METHODS.items() if isinstance(action, kind))
