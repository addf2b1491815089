"""Pictures that come with a request, through the roles: the plain pipeline's pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from roles.split.loading import load
from roles.split.program import BadInput, Call
from tests.support.pipelines import build
from tests.support.splitting import arrays, drive, through_roles
from transfer.messages import Inputs

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
