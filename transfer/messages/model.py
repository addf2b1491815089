"""What the roles know of their model, and which arguments it takes."""

from typing import Literal

from transfer.codec import Record
from transfer.made import RateFrom
from transfer.messages.request import StepCache, StepCacheType
from transfer.messages.words import MediaKind, Scalar


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
