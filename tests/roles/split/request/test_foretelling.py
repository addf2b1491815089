"""A size that a pipeline would not make is refused by its first role: nothing is denoised."""

from typing import Any

import pytest
from PIL import Image

from roles.split.loading import load
from roles.split.program import BadInput, Call
from roles.split.request.foretelling import MOST_FORMS, Foretelling
from tests.conformance.families.flux import flux
from tests.conformance.parts.pictures import mask, picture
from tests.support.pipelines import build
from tests.support.splitting import drive
from transfer.messages import Inputs

TEXT = {"prompt": "a red circle", "num_inference_steps": 2, "max_sequence_length": 32}


def call(media: dict[str, Any], **params: Any) -> Call:
    return Call("r", Inputs({**TEXT, **params}, 3), media)


def test_a_pipeline_that_makes_a_megapixel_says_so_at_once(tmp_path: Any) -> None:
    flux("FluxKontextInpaintPipeline", megapixel=True).save_pretrained(tmp_path)
    encoder = load(tmp_path, ("encoder",), "float32")
    media = {"image": [picture(0, 64, 64)], "mask_image": [mask(64, 64)]}
    with pytest.raises(
        BadInput, match="this model makes 1024x1024 where 192x192 is asked"
    ) as caught:
        encoder.encode(call(media, width=192, height=192))
    assert caught.value.param == "size"
    assert encoder.encode(call(media, width=1024, height=1024))["kept"]


def test_one_that_makes_what_it_is_asked_for_is_let_through(tmp_path: Any) -> None:
    folder = build("sd15_inpaint", tmp_path / "model")
    encoder, denoiser = (load(folder, (role,), "float32") for role in ("encoder", "denoiser"))
    media = {"image": [Image.new("RGB", (48, 48))], "mask_image": [Image.new("L", (48, 48), 255)]}
    asked = Call(
        "r", Inputs({"prompt": "a", "num_inference_steps": 2, "width": 32, "height": 32}, 3), media
    )
    assert drive(denoiser.denoise(asked, encoder.encode(asked)))["decodes"]


PICTURES = {"image": [Image.new("RGB", (8, 8))]}


def _refuse() -> None:
    raise BadInput("this model makes 8x8", "size")


def test_each_form_of_request_is_run_once() -> None:
    told, ran = Foretelling(), []
    for width, prompt in ((8, "a"), (8, "b"), (16, "a"), (8, "c")):
        told.check(call(PICTURES, width=width, prompt=prompt), lambda w=width: ran.append(w))
    told.check(call({"image": [Image.new("RGB", (9, 8))]}, width=8), lambda: ran.append(9))
    assert ran == [8, 16, 9]


def test_it_is_refused_again() -> None:
    told = Foretelling()
    for _ in range(2):
        with pytest.raises(BadInput, match="makes 8x8"):
            told.check(call(PICTURES, width=16), _refuse)


def test_what_fails_tells_nothing() -> None:
    def fails() -> None:
        raise NotImplementedError

    def complains() -> None:
        raise BadInput("no such thing", "prompt")

    told = Foretelling()
    told.check(call(PICTURES, width=16), fails)
    told.check(call(PICTURES, width=24), complains)


def test_without_media_or_a_size_nothing_is_run() -> None:
    told = Foretelling()
    told.check(call({}, width=16), _refuse)
    told.check(call(PICTURES), _refuse)


def test_no_more_is_remembered_than_so_many_forms() -> None:
    told = Foretelling()
    for width in range(MOST_FORMS + 8):
        told.check(call(PICTURES, width=width), lambda: None)
    assert len(told._known) == MOST_FORMS
