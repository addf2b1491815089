"""Finished samples into files: pictures with Pillow, videos and sounds with PyAV. Runs in the rank.

A file has no name: it is an open, unlinked temporary file, which goes when its last descriptor is
closed. So whatever dies, nothing is left behind.
"""

import tempfile
import wave
from fractions import Fraction
from typing import IO, Any

import av
import numpy as np

from roles.calls import MediaFile
from roles.provenance import JPEG_HEADER, Making, as_json, exif, png_chunks
from roles.samples import Audio, Image, Sample, Video
from transfer.messages import Output

QUALITY = 90  # of jpeg and webp, where the request gives none
LOSSLESS = 100  # the quality at which webp keeps every pixel as it is
PNG_LEVEL = 1  # zlib; 6 takes five times as long for a file that is a fifth smaller
H264_CRF = "18"  # visually lossless


class Unencodable(Exception):
    """This kind of sample cannot be put into the format that was asked for."""


class Encoded:
    """A finished file and what is known of it. Whoever holds it closes it."""

    def __init__(self, file: IO[bytes], **facts: Any) -> None:
        self._file = file
        self.facts = MediaFile(fd=file.fileno(), nbytes=file.seek(0, 2), **facts)

    def close(self) -> None:
        self._file.close()


def encode(sample: Sample, output: Output, making: Making, threads: int = 1) -> Encoded:
    """A sample in the format that was asked for, which tells how it was made (prompt, seed, …; see
    `roles.provenance`; a WAV does not).

    `threads` bounds those of the video encoder, which would take every core of the host otherwise.
    Formats: png, jpeg, webp for an Image; mp4 for a Video, webp and png (animated) too; wav for an
    Audio. The format "png", which is the default of every request, means mp4 and wav to a Video and
    an Audio. Raises `Unencodable`.
    """
    if sample.decoded_in is not None:
        making = {**making, "decoded_in": sample.decoded_in}
    file = tempfile.TemporaryFile(prefix="triptych-")  # noqa: SIM115 (it outlives this call)
    try:
        facts = _write(file, sample, output, making, threads)
        return Encoded(file, decoded_in=sample.decoded_in, **facts)
    except BaseException:
        file.close()
        raise


def _write(
    file: IO[bytes], sample: Sample, output: Output, making: Making, threads: int
) -> dict[str, Any]:
    match sample, output.format:
        case Image(), "png" | "jpeg" | "webp":
            return _image(file, sample, output, making)
        case Video(), "png" | "mp4":
            return _mp4(file, sample, making, threads)
        case Video(), "webp":
            return _animation(file, sample, output, making)
        case Audio(), "png" | "wav":
            return _wav(file, sample)
    raise Unencodable(f"{type(sample).__name__.lower()} as {output.format}")


def _image(file: IO[bytes], sample: Image, output: Output, making: Making) -> dict[str, Any]:
    pixels = sample.pixels
    quality = QUALITY if output.quality is None else output.quality
    if output.format == "png":
        pixels.save(file, "PNG", compress_level=PNG_LEVEL, pnginfo=png_chunks(making))
    elif output.format == "jpeg":
        pixels.convert("RGB").save(file, "JPEG", quality=quality, exif=JPEG_HEADER + exif(making))
    else:
        lossless = quality == LOSSLESS
        pixels.save(file, "WEBP", quality=quality, lossless=lossless, exif=exif(making))
    width, height = pixels.size
    return {"kind": "image", "mime": f"image/{output.format}", "width": width, "height": height}


def _mp4(file: IO[bytes], sample: Video, making: Making, threads: int) -> dict[str, Any]:
    width, height = sample.frames[0].size
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = as_json(making)
        stream = container.add_stream("libx264", rate=Fraction(sample.fps).limit_denominator(1001))
        # 4:2:0 halves the chroma planes, which an odd size does not allow
        even = width % 2 == 0 and height % 2 == 0
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        stream.width, stream.height = width, height
        stream.thread_count = threads
        stream.options = {"crf": H264_CRF}
        for frame in sample.frames:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame.convert("RGB")), "rgb24"))
            )
        container.mux(stream.encode())
    return _video("video/mp4", sample)


def _animation(file: IO[bytes], sample: Video, output: Output, making: Making) -> dict[str, Any]:
    first, *others = sample.frames
    quality = QUALITY if output.quality is None else output.quality
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=round(1000 / sample.fps),
        quality=quality,
        lossless=quality == LOSSLESS,
        exif=exif(making),
    )
    return _video("image/webp", sample)


def _video(mime: str, sample: Video) -> dict[str, Any]:
    width, height = sample.frames[0].size
    size = {"width": width, "height": height, "frames": len(sample.frames), "fps": sample.fps}
    return {"kind": "video", "mime": mime, **size}


def _wav(file: IO[bytes], sample: Audio) -> dict[str, Any]:
    """16-bit PCM, channels interleaved."""
    samples = np.clip(sample.array, -1.0, 1.0)
    with wave.open(file, "wb") as wav:
        wav.setnchannels(samples.shape[0])
        wav.setsampwidth(2)
        wav.setframerate(sample.sample_rate)
        wav.writeframes(np.round(samples.T * 32767).astype("<i2").tobytes())
    return {"kind": "audio", "mime": "audio/wav", "frames": samples.shape[1]}
