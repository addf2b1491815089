"""Small films and sounds, as the files that clients send."""

import io
from typing import Any

import av
import numpy as np
from PIL import Image

from roles.rank import sounds
from roles.samples import Audio

RATE = 16_000


def frames(count: int = 5, size: tuple[int, int] = (32, 16)) -> list[Image.Image]:
    """Each of one grey, lighter than the one before."""
    return [Image.new("RGB", size, (20 * number,) * 3) for number in range(count)]


def film(
    pictures: list[Image.Image],
    codec: str = "ffv1",
    format: str = "matroska",
    sound: bool = False,
    options: dict[str, str] | None = None,
    pix_fmt: str | None = None,
) -> bytes:
    """ffv1 of grey, bgr0: keeps every pixel as it is."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=8, options=options or {})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = pix_fmt or ("bgr0" if codec == "ffv1" else "yuv420p")
        audio: Any = container.add_stream("aac", rate=RATE) if sound else None
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            wave = av.AudioFrame.from_ndarray(tone()[:1].copy(), format="fltp", layout="mono")
            wave.sample_rate = RATE
            container.mux(audio.encode(wave))
            container.mux(audio.encode())
    return file.getvalue()


def tone(seconds: float = 0.25, channels: int = 2) -> "np.ndarray[Any, Any]":
    """`[channels, samples]` in float32, at RATE Hz."""
    wave = np.sin(np.arange(int(seconds * RATE)) / 20).astype("float32") / 2
    return np.stack([wave / (channel + 1) for channel in range(channels)])


def wav(array: "np.ndarray[Any, Any] | None" = None) -> bytes:
    file = io.BytesIO()
    sounds.write_wav(file, Audio(tone() if array is None else array, RATE))
    return file.getvalue()
