"""Finished samples into files."""

import contextlib
import io
import json
import os
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from roles.rank.media import Encoded, Unencodable, encode
from roles.samples import Actions, Audio, Custom, Image, Sample, Video
from tests.support.descriptors import held_open
from transfer.made import (
    ActionsMade,
    AudioMade,
    CustomMade,
    ImageMade,
    VideoMade,
)
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
    assert (made.facts.made, made.facts.mime) == (ImageMade(16, 24), "image/png")


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
    assert made.facts.made == VideoMade(*size, frames=9, fps=8.0, fps_from="pipeline")
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


STEREO = Audio(np.array([[0.0, 0.5, 2.0], [0.0, -0.5, -2.0]], np.float32), 16000)
MAKING = {"prompt": "a bell", "seed": 3}


def test_a_flac_has_the_samples_of_the_wav(make: Make) -> None:
    made = make(STEREO, Output(format="flac"), MAKING)
    assert (made.facts.mime, made.facts.made) == ("audio/flac", AudioMade(16000, 2, 3))
    with av.open(io.BytesIO(read(made))) as container:
        assert json.loads(_comment(container.metadata)) == MAKING
        (frame,) = container.decode(audio=0)
    assert (frame.sample_rate, frame.layout.name) == (16000, "stereo")
    assert frame.to_ndarray().reshape(-1).tolist() == [0, 0, 16384, -16384, 32767, -32767]


def _comment(metadata: dict[str, str]) -> str:
    """FFmpeg reads it under another name than it was given."""
    return metadata.get("comment") or metadata["DESCRIPTION"]


def test_a_long_sound_is_whole_in_a_flac(make: Make) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (1, 50_000)).astype(np.float32)
    with av.open(io.BytesIO(read(make(Audio(noise, 44_100), Output(format="flac"))))) as container:
        pieces = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    heard = np.concatenate(pieces) / 32767
    assert np.abs(heard - noise[0]).max() <= 1 / 32767


def sounding(seconds: float, rate: int = 24_000) -> Video:
    """A second of film, and a tone of 440 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.stack([np.sin(time * 2 * np.pi * 440) * 0.5] * 2).astype(np.float32)
    return replace(film(32, 24, 8), sound=Audio(tone, rate), fps_from="request")


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
def test_an_mp4_has_the_sound_of_its_film(make: Make, seconds: float) -> None:
    """Shorter than the film, as long, and longer: all of both is there."""
    made = make(sounding(seconds), Output())
    assert made.facts.made == VideoMade(32, 24, 8, 8.0, "request", sample_rate=24_000, channels=2)
    data = read(made)
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].average_rate == 8
    with av.open(io.BytesIO(data)) as container:
        tone = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    assert len(frames) == 8
    assert rate == 24_000
    assert len(tone) / rate == pytest.approx(seconds, abs=0.1)  # AAC fills its last frame up
    peaks = np.abs(np.fft.rfft(tone))
    assert np.fft.rfftfreq(len(tone), 1 / rate)[peaks.argmax()] == pytest.approx(440, abs=3)


def test_frames_come_in_a_zip_with_every_pixel(make: Make) -> None:
    made = make(sounding(1.0), Output(format="zip"), MAKING)
    assert made.facts.mime == "application/zip"
    with zipfile.ZipFile(io.BytesIO(read(made))) as archive:
        assert archive.testzip() is None
        names = [*(f"frame-{i:05}.png" for i in range(8)), "audio.wav", "making.json"]
        assert archive.namelist() == names
        last = Pillow.open(io.BytesIO(archive.read("frame-00007.png")))
        assert np.array_equal(np.asarray(last), np.asarray(film(32, 24).frames[7]))
        assert json.loads(archive.read("making.json")) == {**MAKING, "fps": 8.0}


@pytest.mark.parametrize("format", ["png", "mp4", "json"])
def test_actions_are_json_whatever_was_asked_for(make: Make, format: Any) -> None:
    made = make(Actions(np.array([[0.5, -1.0]], np.float32)), Output(format=format), MAKING)
    assert (made.facts.mime, made.facts.made) == ("application/json", ActionsMade([1, 2]))
    assert json.loads(read(made)) == {"actions": [[0.5, -1.0]], "making": MAKING}


def test_actions_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="not all numbers"):
        encode(Actions(np.array([[np.nan]], np.float32)), Output(), {})


def test_another_field_of_a_pipeline_comes_under_its_name(make: Make) -> None:
    made = make(Custom("text", ["a", "b"]), Output())
    assert (made.facts.made, json.loads(read(made))["text"]) == (CustomMade("text"), ["a", "b"])
    made = make(Custom("depth", np.eye(3)), Output())
    assert (made.facts.mime, made.facts.made) == ("application/x-npy", CustomMade("depth", [3, 3]))
    assert np.array_equal(np.load(io.BytesIO(read(made)), allow_pickle=False), np.eye(3))


SURROUND = Audio(np.zeros((6, 8), np.float32), 8000)


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        (Image(PICTURE), "mp4"),
        (film(8, 8), "wav"),
        (film(8, 8), "jpeg"),
        (sounding(1.0), "webp"),
        (STEREO, "mp4"),
        (SURROUND, "flac"),
    ],
)
def test_what_does_not_fit_together_is_refused(sample: Sample, name: str) -> None:
    before = held_open()
    with pytest.raises(Unencodable, match=name if sample is not SURROUND else "6 channels"):
        encode(sample, Output(format=name), {})  # type: ignore[arg-type]
    assert held_open() <= before


def test_a_file_goes_with_its_last_descriptor(make: Make) -> None:
    made = make(Image(PICTURE), Output())
    ours = os.open(f"/proc/self/fd/{made.facts.fd}", os.O_RDONLY)
    made.close()
    assert os.pread(ours, 4, 0) == b"\x89PNG"
    assert os.fstat(ours).st_nlink == 0
    os.close(ours)
