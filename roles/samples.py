"""What a model makes, before it is encoded into files: pictures, videos, sounds, actions, and
whatever else a pipeline gives."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.made import RateFrom
from transfer.messages import DecodedIn

if TYPE_CHECKING:
    import numpy
    from PIL import Image as PillowImage


@dataclass(frozen=True)
class Image:
    """One picture: a Pillow image, as the pipeline's own `output_type="pil"` gives it.

    `decoded_in`: "slices" or "tiles", if it was not decoded in one: there was not the memory, or
    ranks shared it out.
    """

    pixels: "PillowImage.Image"
    decoded_in: DecodedIn = None


@dataclass(frozen=True)
class Audio:
    """One sound: `[channels, samples]` in float32, nominally in -1..1, at `sample_rate` Hz."""

    array: "numpy.ndarray[tuple[int, int], Any]"
    sample_rate: int
    decoded_in: DecodedIn = None


@dataclass(frozen=True)
class Video:
    """One video: Pillow images of one size, shown at `fps` frames per second, and its `sound`, if
    the pipeline makes both. `fps_from`: who said so. `decoded_in` as in `Image`."""

    frames: "list[PillowImage.Image]"
    fps: float
    decoded_in: DecodedIn = None
    fps_from: RateFrom = "pipeline"
    sound: Audio | None = None


@dataclass(frozen=True)
class Actions:
    """What a robot is to do: `[steps, dimensions]` in float32."""

    array: "numpy.ndarray[tuple[int, ...], Any]"
    decoded_in: DecodedIn = None


@dataclass(frozen=True)
class Custom:
    """Another field of a pipeline's output: an array, or a tree of plain values."""

    name: str
    value: Any
    decoded_in: DecodedIn = None


Sample = Image | Video | Audio | Actions | Custom
