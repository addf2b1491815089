"""What a pipeline returned, as samples of their kinds."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTX2Pipeline, MochiPipeline, WanPipeline
from diffusers.utils import BaseOutput
from diffusers.video_processor import VideoProcessor
from PIL import Image as Pillow

from roles.samples import Actions, Audio, Custom, Image, Video
from roles.split.decoding.outputs import NothingMade, output_type, samples
from roles.split.decoding.rates import Fps, asked_fps, fps_of, sample_rate
from roles.split.request.inputs import arguments
from tests.support.pipelines import PARAMS
from tests.support.splitting import call, drive

FPS = Fps(12.0, "example")
FRAME = Pillow.new("RGB", (8, 8))


def made(rate: int | None = 16_000, **fields: Any) -> list[Any]:
    return samples(SimpleNamespace(**fields), {}, FPS, rate)


def test_pictures() -> None:
    assert made(images=[FRAME, FRAME]) == [Image(FRAME), Image(FRAME)]
    assert made(images=[[FRAME, FRAME], [FRAME]]) == [Image(FRAME)] * 3  # layers, say
    (as_numbers,) = made(images=np.ones((1, 8, 8, 3)))
    assert as_numbers.pixels.getpixel((0, 0)) == (255, 255, 255)


class Depths:
    """A processor that makes no pictures."""


class Shown:
    image_processor: Any = Depths()

    def __call__(self, output_type: str = "np") -> None: ...


def test_pictures_are_asked_for_where_there_are_any() -> None:
    pipeline = Shown()
    assert output_type(pipeline) is None
    pipeline.image_processor = VideoProcessor()
    assert output_type(pipeline) == "pil"
    del Shown.image_processor, pipeline.image_processor
    assert output_type(pipeline) == "pil"


def test_videos_one_of_frames_or_several_of_them() -> None:
    assert made(frames=[[FRAME] * 2, [FRAME]]) == [
        Video([FRAME] * 2, 12.0, fps_from="example"),
        Video([FRAME], 12.0, fps_from="example"),
    ]
    (one,) = made(video=[FRAME] * 3)
    assert len(one.frames) == 3
    (of_numbers,) = made(frames=np.zeros((1, 5, 8, 8, 3)))
    assert (len(of_numbers.frames), of_numbers.frames[0].size) == (5, (8, 8))


def test_a_video_and_its_sound_are_one() -> None:
    (video,) = made(frames=[[FRAME]], audio=torch.zeros(1, 2, 100))
    assert (video.sound.array.shape, video.sound.sample_rate) == ((2, 100), 16_000)
    (video,) = made(video=[FRAME], sound=torch.zeros(2, 100))
    assert video.sound.array.shape == (2, 100)


def test_sounds() -> None:
    assert [sound.array.shape for sound in made(audios=np.zeros((2, 100)))] == [(1, 100)] * 2


def test_a_sound_of_which_nobody_knows_the_rate_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="sample rate"):
        made(None, audios=np.zeros((1, 100)))


def test_actions_come_beside_what_else_there_is() -> None:
    video, actions = made(video=[FRAME], action=[torch.ones(3, 2)])
    assert isinstance(video, Video)
    assert isinstance(actions, Actions)
    assert actions.array.shape == (3, 2)


class Texts(BaseOutput):  # type: ignore[misc]
    pass


def test_other_fields_count_where_there_is_nothing_else() -> None:
    output = Texts(text=["hello"], depth=torch.ones(2, 2), hidden=None, model=object())
    found = samples(output, {}, FPS, None)
    assert [(each.name, type(each)) for each in found] == [("text", Custom), ("depth", Custom)]
    assert isinstance(found[1].value, np.ndarray)
    assert samples(Texts(images=[FRAME], nsfw=[False]), {}, FPS, None) == [Image(FRAME)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"images": []},
        {"images": None, "frames": None},
        {"frames": [[]]},
        {"audios": np.zeros((0, 100))},
        {"audios": np.zeros((1, 0))},
        {"action": []},
    ],
)
def test_v7_nothing_is_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(NothingMade, match="returned no picture"):
        made(**fields)


@pytest.mark.parametrize(
    ("kind", "fps"),
    [
        (LTX2Pipeline, (24.0, "pipeline")),  # its argument's default
        (WanPipeline, (16.0, "example")),
        (MochiPipeline, (10.0, "assumed")),  # diffusers' default for files
    ],
)
def test_who_says_how_many_frames_a_second(kind: Any, fps: tuple[float, str]) -> None:
    pipeline = object.__new__(kind)
    assert fps_of(pipeline, arguments(kind.__call__)) == fps


def test_a_request_may_say_it() -> None:
    assert asked_fps({"frame_rate": 30.0}, None, FPS) == (30.0, "request")
    assert asked_fps({}, 5.0, FPS) == (5.0, "request")
    assert asked_fps({}, None, FPS) == FPS


def test_who_says_how_many_samples_a_second() -> None:
    def part(**config: Any) -> Any:
        return SimpleNamespace(config=config)

    of_transformers = SimpleNamespace(config=SimpleNamespace(sampling_rate=22_050))
    vae = part(sampling_rate=44_100)
    assert sample_rate(SimpleNamespace(vae=vae)) == 44_100
    assert sample_rate(SimpleNamespace(vae=vae, vocoder=of_transformers)) == 22_050
    assert sample_rate(SimpleNamespace(unet=part(sample_rate=8_000))) == 8_000
    assert sample_rate(SimpleNamespace(vae=part(latent_channels=4))) is None


def test_a_film_with_its_sound_from_the_model(program: Any) -> None:
    """LTX2 through three roles: fps of the request, sample rate of the vocoder."""
    asked = call({**PARAMS["ltx2"], "num_inference_steps": 1})
    encoded = program("ltx2", "encoder").encode(asked)
    denoised = drive(program("ltx2", "denoiser").denoise(asked, encoded))
    decoder = program("ltx2", "decoder")
    (video,) = decoder.decode(asked, denoised)
    assert (video.fps, video.fps_from, len(video.frames)) == (25.0, "request", 5)
    assert isinstance(video.sound, Audio)
    assert (video.sound.sample_rate, decoder.info.sample_rate) == (16_000, 16_000)
    assert (decoder.info.fps, decoder.info.fps_from) == (24.0, "pipeline")
    assert decoder.info.frames_step == 2
