"""Videos into files: MP4 with PyAV, sound included; animated WebP with Pillow; or their frames,
every pixel kept, as PNGs in a ZIP."""

import io
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any

import av
import numpy as np

from roles.rank import sounds
from roles.rank.provenance import Making, as_json, exif
from roles.samples import Audio, Video
from transfer.made import VideoMade

H264_CRF = "18"  # visually lossless
AAC_BITS = 192_000  # per second
PNG_LEVEL = 1  # zlib; as of pictures
LOSSLESS = 100  # the quality at which webp keeps every pixel as it is


def write_mp4(file: IO[bytes], sample: Video, making: Making, threads: int) -> None:
    """H.264, and AAC where there is sound: each frame is followed by the sound of its time, so
    that a player can begin before it has the whole file."""
    width, height = sample.frames[0].size
    rate = Fraction(sample.fps).limit_denominator(1001)
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = as_json(making)
        stream = container.add_stream("libx264", rate=rate)
        # 4:2:0 halves the chroma planes, which an odd size does not allow
        even = width % 2 == 0 and height % 2 == 0
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        stream.width, stream.height = width, height
        stream.thread_count = threads
        stream.options = {"crf": H264_CRF}
        sound = None if sample.sound is None else _Track(container, sample.sound)
        for number, frame in enumerate(sample.frames, 1):
            pixels = av.VideoFrame.from_ndarray(np.asarray(frame.convert("RGB")), "rgb24")
            container.mux(stream.encode(pixels))
            if sound is not None:
                sound.write_until(float(number / rate))
        if sound is not None:
            sound.finish()
        container.mux(stream.encode())


class _Track:
    """The sound of a film, in pieces."""

    def __init__(self, container: Any, sample: Audio) -> None:
        self._container, self._rate = container, sample.sample_rate
        self._array = np.ascontiguousarray(np.clip(sample.array, -1.0, 1.0), "float32")
        self._layout = sounds.layout_of(sample)
        self._stream = container.add_stream("aac", rate=sample.sample_rate)
        self._stream.layout = self._layout
        self._stream.bit_rate = AAC_BITS
        self._written = 0

    def write_until(self, seconds: float) -> None:
        end = min(round(seconds * self._rate), self._array.shape[1])
        if end > self._written:
            piece = np.ascontiguousarray(self._array[:, self._written : end])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self._layout)
            frame.sample_rate = self._rate
            frame.pts, frame.time_base = self._written, Fraction(1, self._rate)
            self._container.mux(self._stream.encode(frame))
            self._written = end

    def finish(self) -> None:
        self.write_until(self._array.shape[1] / self._rate)
        self._container.mux(self._stream.encode())


def write_webp(file: IO[bytes], sample: Video, quality: int, making: Making) -> None:
    first, *others = sample.frames
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


def write_zip(file: IO[bytes], sample: Video, making: Making) -> None:
    """frame-00000.png and so on, audio.wav where there is sound, and making.json. Not compressed
    once more."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _members(sample):
            archive.writestr(name, data)
        archive.writestr("making.json", as_json({**making, "fps": sample.fps}))


def _members(sample: Video) -> Iterator[tuple[str, bytes]]:
    for number, frame in enumerate(sample.frames):
        png = io.BytesIO()
        frame.save(png, "PNG", compress_level=PNG_LEVEL)
        yield f"frame-{number:05}.png", png.getvalue()
    if sample.sound is not None:
        wav = io.BytesIO()
        sounds.write_wav(wav, sample.sound)
        yield "audio.wav", wav.getvalue()


def described(sample: Video) -> VideoMade:
    width, height = sample.frames[0].size
    made = VideoMade(width, height, len(sample.frames), sample.fps, sample.fps_from)
    if sample.sound is None:
        return made
    sound = sounds.described(sample.sound)
    return VideoMade(
        width, height, made.frames, made.fps, made.fps_from, sound.sample_rate, sound.channels
    )
