"""What a model makes: pictures, videos and sounds, before they are encoded into files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    from PIL import Image as PillowImage


@dataclass(frozen=True)
class Image:
    """One picture: a Pillow image, as the pipeline's own `output_type="pil"` gives it."""

    pixels: "PillowImage.Image"


@dataclass(frozen=True)
class Video:
    """One video without sound: Pillow images of one size, shown at `fps` frames per second."""

    frames: "list[PillowImage.Image]"
    fps: float


@dataclass(frozen=True)
class Audio:
    """One sound: `[channels, samples]` in float32, nominally in -1..1, at `sample_rate` Hz."""

    array: "numpy.ndarray[tuple[int, int], Any]"
    sample_rate: int


Sample = Image | Video | Audio
