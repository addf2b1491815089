"""Sounds from outside, decoded within bounds: at the door, and again where a pipeline begins."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.containers import check_codec, opened
from transfer.pictures import BadMedia

if TYPE_CHECKING:
    import numpy

FORMATS = ("wav", "flac", "mp3", "ogg", "mp4", "matroska")
CODECS = frozenset(
    {"aac", "alac", "flac", "mp3", "opus", "pcm_f32le", "pcm_s16le", "pcm_s24le", "pcm_s32le"}
    | {"pcm_u8", "vorbis"}
)
MOST_SECONDS, MOST_CHANNELS = 600, 8
MOST_SAMPLES = 1 << 26  # of all channels, after it is resampled too


class Length(NamedTuple):
    """`samples`: of each channel."""

    channels: int
    samples: int
    sample_rate: int


def decode(
    data: bytes, sample_rate: int | None = None
) -> "tuple[numpy.ndarray[tuple[int, ...], Any], int]":
    """`[channels, samples]` in float32, nominally in -1..1, and its samples per second: those asked
    for, or the file's own. The first sound of a film, if it is one. Raises `BadMedia`."""
    import numpy

    with opened(data, FORMATS, "sound") as container:
        pieces = list(_pieces(container, sample_rate))
    return numpy.concatenate([piece for piece, _ in pieces], axis=1), pieces[0][1]


def measure(data: bytes) -> Length:
    """Decodes it and keeps nothing: what passes here can be decoded. Raises `BadMedia`."""
    found = Length(0, 0, 0)
    with opened(data, FORMATS, "sound") as container:
        for piece, rate in _pieces(container, None):
            found = Length(piece.shape[0], found.samples + piece.shape[1], rate)
    return found


def _pieces(
    container: Any, sample_rate: int | None
) -> "Iterator[tuple[numpy.ndarray[tuple[int, ...], Any], int]]":
    from av import AudioResampler

    if not container.streams.audio:
        raise BadMedia("there is no sound in it")
    stream = container.streams.audio[0]
    check_codec(stream, CODECS)
    context = stream.codec_context
    channels, own = context.channels, context.sample_rate
    if not 1 <= channels <= MOST_CHANNELS:
        raise BadMedia(f"it has {channels} channels; 1 to {MOST_CHANNELS} are taken")
    rate = sample_rate or own
    resampler = AudioResampler(format="fltp", layout=context.layout, rate=rate)
    taken = made = 0
    for frame in itertools.chain(container.decode(stream), (None,)):
        if frame is not None:
            taken += frame.samples
            _check(taken, own, channels)
        for piece in resampler.resample(frame):
            made += piece.samples
            _check(made, rate, channels)
            yield piece.to_ndarray(), rate
    if not made:
        raise BadMedia("it has no samples")


def _check(samples: int, rate: int, channels: int) -> None:
    if samples > MOST_SECONDS * rate:
        raise BadMedia(f"it is longer than {MOST_SECONDS} seconds")
    if samples * channels > MOST_SAMPLES:
        raise BadMedia(f"it has more than {MOST_SAMPLES} samples")
