"""What is in a finished file: one tagged union, from the decoder to the client.

The tag `kind` is what clients read. A file without one of these does not exist: a request that made
nothing has failed.
"""

from typing import Literal

from transfer.codec import Record

RateFrom = Literal["request", "pipeline", "example", "assumed"]
"""Who said how many frames are shown per second: the request; the pipeline's own argument or
config; its example in diffusers' documentation; or nobody, and it is diffusers' default for files.
"""


class ImageMade(Record, frozen=True, tag="image", tag_field="kind"):
    """A picture. Pixels; None where it is not known before it is decoded."""

    width: int | None = None
    height: int | None = None


class VideoMade(Record, frozen=True, tag="video", tag_field="kind"):
    """A film, `fps` frames per second. `sample_rate` (Hz), `channels`: of its sound, if it has
    one."""

    width: int
    height: int
    frames: int
    fps: float
    fps_from: RateFrom
    sample_rate: int | None = None
    channels: int | None = None


class AudioMade(Record, frozen=True, tag="audio", tag_field="kind"):
    """A sound of so many samples in each channel, `sample_rate` of them per second (Hz)."""

    sample_rate: int
    channels: int
    samples: int


class ActionsMade(Record, frozen=True, tag="actions", tag_field="kind"):
    """What a robot is to do: numbers of this shape, `[steps, dimensions]` mostly."""

    shape: list[int]


class CustomMade(Record, frozen=True, tag="custom", tag_field="kind"):
    """A field of the pipeline's output that is none of the others. `name`: what the pipeline calls
    it. `shape`: of an array; None of anything else."""

    name: str
    shape: list[int] | None = None


Made = ImageMade | VideoMade | AudioMade | ActionsMade | CustomMade


def size_of(made: Made) -> tuple[int, int] | None:
    """(width, height) in pixels, of what has one that is known."""
    if isinstance(made, ImageMade | VideoMade) and made.width and made.height:
        return made.width, made.height
    return None
