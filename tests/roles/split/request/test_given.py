"""Pictures that come with a request, through the roles: the plain pipeline's pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from roles.split.loading import load
from roles.split.made_up import media_for
from roles.split.program import BadInput, Call
from roles.split.request.given import accept, media_arguments
from tests.support.pipelines import build
from tests.support.splitting import arrays, drive, through_roles
from transfer.messages import Inputs, ModelInfo, Parameter

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))
MASK = Image.fromarray(RNG.integers(0, 2, (32, 32), np.uint8) * 255)
PARAMS = {"prompt": "a red circle", "num_inference_steps": 4, "strength": 0.75}
KINDS = {
    "sd15_img2img": {"image": [PICTURE]},
    "sd15_inpaint": {"image": [PICTURE], "mask_image": [MASK]},
}


def call(media: dict[str, Any], params: dict[str, Any] = PARAMS) -> Call:
    return Call("r", Inputs(params=params, seed=3), media)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model")
    return build(request.param, folder / request.param), KINDS[request.param]


@pytest.fixture(scope="module")
def plain(model: Any) -> Any:
    folder, media = model
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    given = {name: pictures[0] for name, pictures in media.items()}
    generator = torch.Generator("cpu").manual_seed(3)
    return np.asarray(pipeline(**PARAMS, **given, generator=generator).images[0])


def test_three_roles_give_the_plain_pipelines_pixels(model: Any, plain: Any) -> None:
    folder, media = model
    roles = [load(folder, (role,), "float32") for role in ("encoder", "denoiser", "decoder")]
    (made,) = arrays(through_roles(*roles, call(media)))
    assert np.array_equal(made, plain)
    assert roles[0].info.pictures == list(media)


def test_one_role_does_too(model: Any, plain: Any) -> None:
    folder, media = model
    whole = load(folder, ("monolithic",), "float32")
    (made,) = arrays(drive(whole.generate(call(media))))
    assert np.array_equal(made, plain)
    with pytest.raises(BadInput) as caught:
        whole.generate(call({**media, "control_image": [PICTURE]}))
    assert caught.value.param == "control_image"


def test_another_denoiser_goes_on_in_the_middle(model: Any, plain: Any) -> None:
    folder, media = model
    encoder, denoiser, decoder = (
        load(folder, (role,), "float32") for role in ("encoder", "denoiser", "decoder")
    )
    asked = call(media)
    first = denoiser.denoise(asked, encoder.encode(asked))
    first.start()
    first.mark()
    while first.checkpoint is None:
        first.resume([each.run() for each in first.pending])
    first.cancel()
    assert first.checkpoint.payload is not None, first.checkpoint.why_not
    other = Call("r", asked.inputs)  # which was given nothing but the payload
    (made,) = arrays(
        decoder.decode(other, drive(denoiser.denoise(other, first.checkpoint.payload)))
    )
    assert np.array_equal(made, plain)


@pytest.mark.parametrize("role", ["denoiser", "monolithic"])
def test_a_model_that_needs_a_picture_is_warmed_up_with_a_made_one(
    model: Any, role: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the weights that encode it, of the very form that real requests have."""
    folder, media = model
    seen: list[Any] = []
    monkeypatch.setattr("roles.split.warming._run", lambda info, calls, half: seen.append(calls[0]))
    program = load(folder, (role,), "float32")
    program.warm()
    encoder = load(folder, ("encoder",), "float32")
    asked = call(media, {**PARAMS, "height": 32, "width": 32} if "mask_image" in media else PARAMS)
    if role == "denoiser":
        denoising = program.denoise(asked, encoder.encode(asked))
    else:
        denoising = program.generate(asked)
    denoising.start()
    real = denoising.pending[0]
    denoising.cancel()
    assert seen[0].name == real.name
    assert seen[0].kwargs.keys() == real.kwargs.keys()
    assert [type(each) for each in seen[0].args] == [type(each) for each in real.args]


def test_sounds_are_a_batch_of_one_but_where_pipelines_want_none() -> None:
    def pipeline(audio: torch.Tensor, src_audio: torch.Tensor | None = None) -> None: ...

    sound = torch.zeros(2, 8)
    taken = accept(media_arguments(pipeline), {"audio": [sound], "src_audio": [sound]})
    assert {name: each.shape for name, each in taken.items()} == {
        "audio": (1, 2, 8),
        "src_audio": (2, 8),
    }
    assert accept(media_arguments(pipeline), {"audio": [sound[None]]})["audio"].shape == (1, 2, 8)


def test_a_film_is_the_list_of_its_frames() -> None:
    def pipeline(video: list[Image.Image], mask_video: list[Image.Image]) -> None: ...

    film, mask = [PICTURE] * 3, [MASK]
    taken = accept(media_arguments(pipeline), {"video": [film], "mask_video": [mask]})
    assert taken == {"video": film, "mask_video": mask}


def test_what_is_made_up_is_the_least_that_may_do() -> None:
    info = ModelInfo(
        "m",
        "P",
        "f",
        "video",
        [Parameter("num_frames", "int", False, 9)],
        default_size=(64, 32),
        pictures=["image", "last_image"],
        films=["pose_video", "mask"],
        sounds=["audio"],
        needs=["pose_video"],
        sample_rate=100,
    )
    made = list(media_for(info))
    assert [sorted(each) for each in made] == [
        ["pose_video"],
        ["image", "pose_video"],
        ["image", "last_image", "mask", "pose_video"],
        ["audio", "image", "last_image", "mask", "pose_video"],
    ]
    (film,), (mask,) = made[-1]["pose_video"], made[-1]["mask"]
    assert (len(film), film[0].size, film[0].mode, mask[0].mode) == (9, (64, 32), "RGB", "L")
    assert made[-1]["audio"][0].shape == (2, 100)
