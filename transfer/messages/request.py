"""What a request is: everything that its pixels follow from."""

from typing import Literal

from transfer.codec import Record
from transfer.messages.words import MediaKind, Params, Priority


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
