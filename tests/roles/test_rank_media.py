"""Finished samples into files."""

import contextlib
import io
import os
import wave
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from roles.media import Encoded, Unencodable, encode
from roles.samples import Audio, Image, Sample, Video
from tests.support.descriptors import held_open
from transfer.messages import Output

Make = Callable[..., Encoded]

RNG = np.random.default_rng(0)
PICTURE = Pillow.fromarray(RNG.integers(0, 256, (24, 16, 3), np.uint8))


def read(encoded: Encoded) -> bytes:
    """As the leader reads it: through the descriptor, from outside."""
    fd = os.open(f"/proc/self/fd/{encoded.facts.fd}", os.O_RDONLY)
    try:
        return os.pread(fd, encoded.facts.nbytes + 1, 0)
    finally:
        os.close(fd)


@pytest.fixture
def make() -> Iterator[Make]:
    """`encode`, whose files are closed when the test is over."""
    with contextlib.ExitStack() as stack:

        def made(sample: Sample, output: Output, text: dict[str, Any] | None = None) -> Encoded:
            return stack.enter_context(contextlib.closing(encode(sample, output, text or {})))

        yield made


def film(width: int, height: int, count: int = 9) -> Video:
    frames = [Pillow.new("RGB", (width, height), (0, index * 20, 0)) for index in range(count)]
    return Video(frames, 8.0)


def test_a_png_has_the_pixels_and_tells_how_it_was_made(make: Make) -> None:
    made = make(Image(PICTURE), Output(), {"prompt": "zwei grüne Sterne", "seed": "7"})
    data = read(made)
    assert len(data) == made.facts.nbytes
    picture = Pillow.open(io.BytesIO(data))
    assert np.array_equal(np.asarray(picture), np.asarray(PICTURE))
    assert picture.info["prompt"] == "zwei grüne Sterne"
    assert picture.info["seed"] == "7"
    assert (made.facts.kind, made.facts.mime) == ("image", "image/png")
    assert (made.facts.width, made.facts.height) == (16, 24)


@pytest.mark.parametrize(("name", "mime"), [("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_lossy_pictures_know_a_quality(make: Make, name: str, mime: str) -> None:
    sizes = []
    for quality in (10, None):
        output = Output(format=name, quality=quality)  # type: ignore[arg-type]
        made = make(Image(PICTURE), output)
        assert made.facts.mime == mime
        assert Pillow.open(io.BytesIO(read(made))).size == (16, 24)
        sizes.append(made.facts.nbytes)
    assert sizes[0] < sizes[1]


def test_a_picture_with_alpha_becomes_a_jpeg(make: Make) -> None:
    made = make(Image(Pillow.new("RGBA", (4, 4))), Output(format="jpeg"))
    assert Pillow.open(io.BytesIO(read(made))).mode == "RGB"


@pytest.mark.parametrize("size", [(32, 24), (33, 25)])
def test_a_video_becomes_an_mp4(make: Make, size: tuple[int, int]) -> None:
    made = make(film(*size), Output())
    assert made.facts.mime == "video/mp4"
    assert (made.facts.frames, made.facts.fps, made.facts.width) == (9, 8.0, size[0])
    with av.open(io.BytesIO(read(made))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9
    assert frames[0].shape == (size[1], size[0], 3)
    assert frames[8][:, :, 1].mean() == pytest.approx(160, abs=8)


def test_a_video_becomes_an_animated_webp(make: Make) -> None:
    made = make(film(16, 16), Output(format="webp"))
    assert Pillow.open(io.BytesIO(read(made))).n_frames == 9


def test_a_sound_becomes_a_wav(make: Make) -> None:
    sound = Audio(np.array([[0.0, 0.5, 2.0], [0.0, -0.5, -2.0]], np.float32), 16000)
    made = make(sound, Output())
    with wave.open(io.BytesIO(read(made))) as wav:
        assert (wav.getnchannels(), wav.getframerate(), wav.getnframes()) == (2, 16000, 3)
        samples = np.frombuffer(wav.readframes(3), "<i2")
    assert samples.tolist() == [0, 0, 16384, -16384, 32767, -32767]


@pytest.mark.parametrize(
    ("sample", "name"), [(Image(PICTURE), "mp4"), (film(8, 8), "wav"), (film(8, 8), "jpeg")]
)
def test_what_does_not_fit_together_is_refused(sample: Image | Video, name: str) -> None:
    before = held_open()
    with pytest.raises(Unencodable, match=name):
        encode(sample, Output(format=name), {})  # type: ignore[arg-type]
    assert held_open() <= before


def test_a_file_goes_with_its_last_descriptor(make: Make) -> None:
    made = make(Image(PICTURE), Output())
    ours = os.open(f"/proc/self/fd/{made.facts.fd}", os.O_RDONLY)
    made.close()
    assert os.pread(ours, 4, 0) == b"\x89PNG"
    assert os.fstat(ours).st_nlink == 0
    os.close(ours)
