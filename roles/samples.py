"""What a model makes: pictures, videos and sounds, before they are encoded into files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.messages import DecodedIn

if TYPE_CHECKING:
    import numpy
    from PIL import Image as PillowImage


@dataclass(frozen=True)
class Image:
    """One picture: a Pillow image, as the pipeline's own `output_type="pil"` gives it.

    `decoded_in`: "slices" or "tiles", if there was not the memory to decode it in one.
    """

    pixels: "PillowImage.Image"
    decoded_in: DecodedIn = None


@dataclass(frozen=True)
class Video:
    """One video without sound: Pillow images of one size, shown at `fps` frames per second.
    `decoded_in` as in `Image`."""

    frames: "list[PillowImage.Image]"
    fps: float
    decoded_in: DecodedIn = None


@dataclass(frozen=True)
class Audio:
    """One sound: `[channels, samples]` in float32, nominally in -1..1, at `sample_rate` Hz."""

    array: "numpy.ndarray[tuple[int, int], Any]"
    sample_rate: int
    decoded_in: DecodedIn = None


Sample = Image | Video | Audio
