"""What an instance is started with: `triptych serve --disagg-role ROLE[,ROLE…]`."""

import os
import secrets
from typing import Literal

import msgspec

from roles.leader.turns import Schedule
from roles.origins import NOTHING, Origins
from roles.parallel import Parallel, divide
from transfer.messages import DECODES, DENOISES, Role, Speed, StepCache
from transfer.speed import chosen

SLOTS = 32
SLOT_BYTES = 4 << 20
SLICE_S = 0.25
MAX_BATCH = 4
CHECKPOINT_S = 5.0
SCHEDULE: Schedule = "sjf"
RANK_TIMEOUT_S = 600.0
ENCODER_CACHE = 256 << 20
QUANTIZED = ("int8", "int8-dynamic", "int4", "float8", "float8-dynamic")


class RoleOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: its model, roles, device, memory and addresses.

    Made by the command line and by tests; read by `roles.leader.leader.serve`. Sizes are bytes.
    """

    orchestrator: str
    """Where the orchestrator's control socket listens: tcp://HOST:PORT."""
    model: str
    """A folder in the diffusers format (model_index.json), or a hub id, as
    `roles.split.files.source` reads it."""
    model_name: str | None = None
    """What requests call it. None: the name of its folder, or the hub id."""
    origins: Origins = NOTHING
    """Where the model comes from, beside that."""
    roles: tuple[Role, ...]
    """What the instance serves; several roles share its ranks."""
    name: str | None = None
    """Unique in the cluster. None: the roles and four random digits."""
    device: str = "cpu"
    """Where the ranks compute: cpu or cuda:N (rank r takes cuda:N+r)."""
    dtype: str = "auto"
    """auto (what plain `from_pretrained` gives), float32, bfloat16 or float16."""
    compile: bool = False
    """Whether the transformer's repeated blocks are compiled. This and the next three are for roles
    that denoise."""
    attention_backend: str | None = None
    """The name that diffusers has for an attention backend. None: torch's own."""
    quantize: str | None = None
    """What the transformer's weights become, one of `QUANTIZED`. None: as they are."""
    step_cache: StepCache | None = None
    """The step cache of requests that ask for none themselves."""
    ranks: int = 1
    """Rank processes of the instance, on all its hosts together."""
    nnodes: int = 1
    """Hosts that have ranks of the instance, as many each; see `roles.nodes`."""
    node_rank: int = 0
    """Which of them this is. The leader is on 0."""
    rendezvous: str | None = None
    """HOST:PORT, an address of node 0, where they meet. None: there is one host."""
    parallel: str | None = None
    """How they divide their work, as `roles.parallel.divide` reads it. None: the samples of a
    forward."""
    transfer: Literal["auto", "shm", "mooncake"] = "auto"
    """auto (shared memory on one host, Mooncake between hosts), shm or mooncake."""
    slots: int = SLOTS
    """Slots that others write payloads into, and as many to send from, where the roles do both."""
    slot_bytes: int = SLOT_BYTES
    """Bytes of one slot. A payload may span several; it must fit into all of them together."""
    max_batch: int = MAX_BATCH
    """Requests that are denoised at a time, in one forward where that pays, otherwise in turns; one
    more is accepted, so that no rank waits for work."""
    schedule: Schedule = SCHEDULE
    """Whose turn it is among requests of one class: sjf (the shortest predicted remaining seconds
    first, with ageing), fifo or round_robin."""
    threads: int | None = None
    """CPU threads of each rank. None: the usable cores divided by the ranks on this host."""
    slice_s: float = SLICE_S
    """Seconds for which one request is denoised before another one has its turn; one forward at
    least, and no further one when anything else is wanted. A rank that is one of several takes one
    forward at a time, so that all of them take the same."""
    checkpoint_s: float = CHECKPOINT_S
    """Seconds of compute after which a denoiser keeps the state of a request, so that the request
    can go on from there when its rank dies; 0: never. Requests that are nearly done are left."""
    rank_timeout_s: float = RANK_TIMEOUT_S
    """Seconds for one unit of work (an encode, a slice of steps, a decode); a rank that has not
    answered by then is hung, and is killed and started again."""
    encoder_cache: int = ENCODER_CACHE
    """Bytes of device memory in which an encoder keeps what it has encoded, for requests with the
    same text; 0: it keeps nothing."""
    advertise: str = "127.0.0.1"
    """The host name or address under which others reach this process."""
    endpoint: str | None = None
    """Where finished media are served: tcp://HOST:PORT. None: a free port of every interface."""
    keys: str | None = None
    """The folder of the cluster's key pair. None: see `transfer.keys.cluster_keys`."""
    cores: int = 0
    """Cores that this instance shares with others of this host, see `cores_file`."""
    cores_file: str | None = None
    """Through which a rank learns how many others compute, to use their cores when they do not
    (`roles.cores`). None: it has `threads`, always."""
    media_store: str | None = None
    """A folder or fsspec URL that the front door reaches too. None: media stay in this process."""

    @property
    def role_names(self) -> str:
        """The roles as the command line writes them: encoder,decoder."""
        return ",".join(self.roles)

    def speed(self) -> Speed | None:
        """How the transformer is to run; None for roles without one."""
        if not DENOISES & set(self.roles):
            return None
        cache = chosen(None, self.step_cache)
        context = self.division().context
        attention = self.attention_backend
        return Speed(self.dtype, self.compile, attention, self.quantize, cache, context)

    @property
    def joins(self) -> bool:
        """Whether the ranks divide forwards, or tiles. Otherwise they all do the same."""
        tiles = bool(DECODES & set(self.roles)) and self.division().tiles > 1
        return self.ranks > 1 and (tiles or bool(DENOISES & set(self.roles)))

    def division(self) -> Parallel:
        """Raises ValueError with a sentence."""
        return divide(self.parallel, self.ranks)

    def given_name(self) -> str:
        """The name to register under."""
        return self.name or f"{'+'.join(self.roles)}-{secrets.token_hex(2)}"

    def thread_count(self) -> int:
        """CPU threads of each rank, at least one."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // self.ranks_here)

    @property
    def ranks_here(self) -> int:
        """Ranks on each host."""
        return self.ranks // self.nnodes

    def node_of(self, rank: int) -> int:
        """Neighbours in rank are on one host as far as possible: they exchange most."""
        return rank // self.ranks_here

    def place_of(self, rank: int) -> int:
        """Which of the ranks of its host it is."""
        return rank % self.ranks_here

    def rank_device(self, rank: int) -> str:
        """The device of one rank, on its host: cuda:1 and three ranks are cuda:1 to cuda:3."""
        kind, _, index = self.device.partition(":")
        return self.device if kind == "cpu" else f"{kind}:{int(index or 0) + self.place_of(rank)}"

    def capacity(self, writes: bool = False) -> dict[Role, int]:
        """Requests of each role that this instance takes at a time: those that compute, and one
        that waits, so that the ranks are never idle between two. In a decoder also one whose files
        are being made while the next is decoded. Where the shortest go first, as many again find
        room beside those that they overtake. Each class of requests has all of these places for
        itself, because what is of a lower one gives way. `writes`: encoders write something token
        by token, and do that for several requests together."""
        stepped = 2 * self.max_batch if self.schedule == "sjf" else self.max_batch
        encoded = self.max_batch + 1 if writes else 2
        places: dict[Role, int] = {"encoder": encoded, "decoder": 3}
        return {role: places.get(role, stepped + 1) for role in self.roles}


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT or [V6]:PORT, which the command line has checked."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
