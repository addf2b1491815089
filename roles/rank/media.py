"""Finished samples into files. Pictures with Pillow, here; the others in `films` and `sounds`. Runs
in the rank.

A file has no name: it is an open, unlinked temporary file, which goes when its last descriptor is
closed. So whatever dies, nothing is left behind.
"""

import tempfile
from typing import IO, Any

import msgspec
import numpy as np

from roles.calls import MediaFile
from roles.rank import films, sounds
from roles.rank.films import LOSSLESS, PNG_LEVEL
from roles.rank.provenance import JPEG_HEADER, Making, exif, png_chunks
from roles.samples import Actions, Audio, Custom, Image, Sample, Video
from transfer.made import ActionsMade, CustomMade, ImageMade, Made
from transfer.messages import Output

QUALITY = 90  # of jpeg and webp, where the request gives none


class Unencodable(Exception):
    """This kind of sample cannot be put into the format that was asked for."""


class Encoded:
    """A finished file and what is known of it. Whoever holds it closes it."""

    def __init__(self, file: IO[bytes], mime: str, made: Made, **facts: Any) -> None:
        self._file = file
        self.facts = MediaFile(file.fileno(), made, mime, file.seek(0, 2), **facts)

    def close(self) -> None:
        self._file.close()


def encode(sample: Sample, output: Output, making: Making, threads: int = 1) -> Encoded:
    """A sample in the format that was asked for, which tells how it was made (prompt, seed, …; see
    `roles.rank.provenance`; a WAV does not).

    `threads` bounds those of the video encoder, which would take every core of the host otherwise.
    Formats: png, jpeg, webp for an Image; mp4, zip (its frames) for a Video, webp (animated) if it
    has no sound; wav, flac for an Audio. Actions are JSON whatever was asked for, and so is what is
    custom, but for arrays, which are NPY. The format "png", the default of every request, means mp4
    to a Video and wav to an Audio. Raises `Unencodable`.
    """
    if sample.decoded_in is not None:
        making = {**making, "decoded_in": sample.decoded_in}
    file = tempfile.TemporaryFile(prefix="triptych-")  # noqa: SIM115 (it outlives this call)
    try:
        mime, made = _write(file, sample, output, making, threads)
        return Encoded(file, mime, made, decoded_in=sample.decoded_in)
    except BaseException:
        file.close()
        raise


def _write(
    file: IO[bytes], sample: Sample, output: Output, making: Making, threads: int
) -> tuple[str, Made]:
    """The MIME type of what is in the file now, and what it is."""
    match sample:
        case Image():
            return _image(file, sample, output, making)
        case Video():
            return _video(file, sample, output, making, threads), films.described(sample)
        case Audio():
            return _audio(file, sample, output, making), sounds.described(sample)
        case Actions():
            return _actions(file, sample, making)
        case Custom():
            return _custom(file, sample, making)


def _image(file: IO[bytes], sample: Image, output: Output, making: Making) -> tuple[str, ImageMade]:
    pixels = sample.pixels
    quality = _quality(output)
    match output.format:
        case "png":
            pixels.save(file, "PNG", compress_level=PNG_LEVEL, pnginfo=png_chunks(making))
        case "jpeg":
            block = JPEG_HEADER + exif(making)
            pixels.convert("RGB").save(file, "JPEG", quality=quality, exif=block)
        case "webp":
            lossless = quality == LOSSLESS
            pixels.save(file, "WEBP", quality=quality, lossless=lossless, exif=exif(making))
        case format:
            raise Unencodable(f"a picture as {format}")
    return f"image/{output.format}", ImageMade(*pixels.size)


def _video(file: IO[bytes], sample: Video, output: Output, making: Making, threads: int) -> str:
    match output.format:
        case "png" | "mp4":
            with _refused():
                films.write_mp4(file, sample, making, threads)
            return "video/mp4"
        case "zip":
            films.write_zip(file, sample, making)
            return "application/zip"
        case "webp" if sample.sound is None:
            films.write_webp(file, sample, _quality(output), making)
            return "image/webp"
        case "webp":
            raise Unencodable("a video with sound as webp, which has none; mp4 and zip keep it")
        case format:
            raise Unencodable(f"a video as {format}")


def _audio(file: IO[bytes], sample: Audio, output: Output, making: Making) -> str:
    match output.format:
        case "png" | "wav":
            sounds.write_wav(file, sample)
            return "audio/wav"
        case "flac":
            with _refused():
                sounds.write_flac(file, sample, making)
            return "audio/flac"
        case format:
            raise Unencodable(f"a sound as {format}")


def _actions(file: IO[bytes], sample: Actions, making: Making) -> tuple[str, ActionsMade]:
    if not np.isfinite(sample.array).all():
        raise RuntimeError("the model's actions are not all numbers")
    file.write(msgspec.json.encode({"actions": sample.array.tolist(), "making": making}))
    return "application/json", ActionsMade(list(sample.array.shape))


def _custom(file: IO[bytes], sample: Custom, making: Making) -> tuple[str, CustomMade]:
    if isinstance(sample.value, np.ndarray):
        np.lib.format.write_array(file, sample.value, allow_pickle=False)
        return "application/x-npy", CustomMade(sample.name, list(sample.value.shape))
    file.write(msgspec.json.encode({sample.name: sample.value, "making": making}))
    return "application/json", CustomMade(sample.name)


def _quality(output: Output) -> int:
    return QUALITY if output.quality is None else output.quality


class _refused:
    """What a codec cannot take is the request's to change."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sounds.TooManyChannels):
            raise Unencodable(str(error)) from error
