"""What a request may not ask for, and how it is told."""

import pytest
from PIL import Image

from roles.split.program import BadInput, Call
from roles.split.request.refusals import of_first_forward
from tests.support.pipelines import PARAMS
from tests.support.splitting import call, drive
from transfer.messages import Inputs, Upload


def refused(program, params) -> BadInput:
    with pytest.raises(BadInput) as caught:
        program.encode(call(params))
    return caught.value


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"colour": "red"}, "colour", "no parameter colour"),
        ({"output_type": "latent"}, "output_type", "no parameter"),
        ({"latents": [1.0]}, "latents", "no parameter"),
        ({"num_images_per_prompt": 2}, "num_images_per_prompt", "no parameter"),
        ({"prompt": 7}, "prompt", "prompt must be text, not 7"),
        ({"prompt": ["a", "b"]}, "prompt", "must be text"),
        ({"prompt": None}, "prompt", "prompt"),
        ({"height": "tall"}, "height", "height must be an integer, not 'tall'"),
        ({"height": True}, "height", "an integer"),
        ({"num_inference_steps": 0}, "num_inference_steps", "at least 1"),
        ({"num_inference_steps": 2.5}, "num_inference_steps", "an integer"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "a number"),
        ({"height": 33}, "size", "height must be a multiple of 8 with this model, not 33"),
        ({"timesteps": [3, "x"]}, "timesteps", "a list"),
        ({"timesteps": [9, 5], "sigmas": [1.0]}, None, "Only one of `timesteps` or `sigmas`"),
        ({"num_inference_steps": 5000}, "num_inference_steps", "5000"),
    ],
)
def test_bad_input_names_its_field(change, param, message, program):
    error = refused(program("sd15", "encoder"), {**PARAMS["sd15"], **change})
    assert message in str(error)
    if param is not None:
        assert error.param == param


def test_a_missing_prompt_is_named(program):
    without = {k: v for k, v in PARAMS["zimage"].items() if k != "prompt"}
    error = refused(program("zimage", "encoder"), without)
    assert (error.param, str(error)) == ("prompt", "prompt is missing")


@pytest.mark.parametrize(
    ("name", "too_long"),
    [
        ("sd15", 100),
        ("sdxl", 100),
        ("flux", 100),
        ("zimage", 100),
        ("qwenimage", 1100),
        ("ltx", 140),
    ],
)
def test_a_prompt_that_no_tokenizer_reads_whole_is_refused(name, too_long, program):
    encoder = program(name, "encoder")
    error = refused(encoder, {**PARAMS[name], "prompt": "x" * too_long})
    assert (error.param, str(error)) == ("prompt", "prompt is longer than the model reads")


def test_the_negative_prompt_is_read_too(program):
    change = {"negative_prompt": "Y y! " * 50}
    error = refused(program("sd15", "encoder"), {**PARAMS["sd15"], **change})
    assert error.param == "negative_prompt"


def test_one_tokenizer_that_reads_the_whole_prompt_is_enough(program):
    # CLIP reads 77 tokens of it, T5 all of them
    long = {**PARAMS["sd3"], "prompt": "x" * 100, "max_sequence_length": 200}
    assert program("sd3", "encoder").encode(call(long))


def test_a_whole_pipeline_refuses_the_same(program):
    whole = program("sd15", "monolithic")
    with pytest.raises(BadInput):
        whole.generate(call({**PARAMS["sd15"], "colour": "red"}))
    for change, param in (
        ({"num_inference_steps": 5000}, "num_inference_steps"),
        ({"prompt": "x" * 100}, "prompt"),
    ):
        with pytest.raises(BadInput) as caught:
            drive(whole.generate(call({**PARAMS["sd15"], **change})))
        assert caught.value.param == param


def test_an_error_of_a_model_is_no_bad_input(program):
    whole = program("sd15", "monolithic")
    encoder = whole.pipeline.text_encoder
    forward = encoder.forward
    encoder.forward = lambda *args, **kwargs: (_ for _ in ()).throw(ValueError("broken"))
    try:
        with pytest.raises(ValueError, match="broken"):
            drive(whole.generate(call(PARAMS["sd15"])))
    finally:
        encoder.forward = forward


def test_a_refused_request_leaves_the_next_one_alone(program):
    encoder = program("sd15", "encoder")
    refused(encoder, {**PARAMS["sd15"], "prompt": "x" * 100})
    assert encoder.encode(call(PARAMS["sd15"]))["kept"][0][0] == "encode_prompt"


PICTURE, MASK = Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255)


def edit(**media) -> Call:
    params = {"prompt": "a", "num_inference_steps": 2, "height": 32, "width": 32}
    return Call("r", Inputs(params, 3), media)


@pytest.mark.parametrize(
    ("media", "param", "words"),
    [
        ({}, None, "a picture or a film is missing, or wrong; not given: image, mask_image"),
        ({"image": [PICTURE]}, "mask_image", "missing, or wrong; not given: mask_image"),
    ],
)
@pytest.mark.parametrize("role", ["encoder", "monolithic"])
def test_media_that_only_the_pipelines_code_asks_for(role, media, param, words, program):
    """Their arguments have defaults with which it cannot run."""
    it = program("sd15_inpaint", role)
    with pytest.raises(BadInput, match=words) as caught:
        it.encode(edit(**media)) if role == "encoder" else drive(it.generate(edit(**media)))
    assert caught.value.param == param


@pytest.mark.parametrize("role", ["encoder", "monolithic"])
def test_pictures_that_only_the_pipelines_tensors_refuse(role, program):
    it, asked = program("sd15_painter", role), edit(image=[PICTURE] * 2, mask_image=[MASK])
    with pytest.raises(BadInput, match="cannot begin with 2 of image") as caught:
        it.encode(asked) if role == "encoder" else drive(it.generate(asked))
    assert caught.value.param == "image"


@pytest.mark.parametrize("role", ["denoiser", "monolithic"])
def test_a_strength_that_leaves_no_step(role, program):
    params = {"prompt": "a", "num_inference_steps": 2, "strength": 0.0}
    it, asked = program("sd15_img2img", role), Call("r", Inputs(params, 3), {"image": [PICTURE]})
    if role == "denoiser":
        encoder = program("sd15_img2img", "encoder")
        loop = it.denoise(asked, encoder.encode(asked))
    else:
        loop = it.generate(asked)
    with pytest.raises(BadInput, match="no step is left") as caught:
        drive(loop)
    assert caught.value.param == "strength"


def test_more_pictures_than_the_model_makes_of_them(program):
    asked = edit(image=[PICTURE, PICTURE], mask_image=[MASK])
    with pytest.raises(BadInput, match="begins with one picture") as caught:
        drive(program("sd15_inpaint", "monolithic").generate(asked))
    assert caught.value.param == "image"
    records = program("sd15_inpaint", "encoder").encode(asked)
    with pytest.raises(BadInput, match="begins with one picture"):
        drive(program("sd15_inpaint", "denoiser").denoise(asked, records))


@pytest.mark.parametrize("role", ["encoder", "monolithic"])
@pytest.mark.parametrize("size", [(1, 1), (2000, 7)])
def test_a_picture_of_which_nothing_is_left_is_named(role, size, program):
    """Its sides are rounded down to a multiple of 8."""
    media = {"image": [Image.new("RGB", size)]}
    it, asked = program("sd15_img2img", role), Call("r", Inputs({"prompt": "a"}, 3), media)
    with pytest.raises(BadInput, match="a picture or a film is wrong") as caught:
        it.encode(asked) if role == "encoder" else drive(it.generate(asked))
    assert caught.value.param == "image"


MISFIT = RuntimeError("The size of tensor a (8) must match the size of tensor b (4)")


@pytest.mark.parametrize(
    ("error", "params", "refused"),
    [
        (MISFIT, ["image", "image"], True),
        (MISFIT, ["image", "mask_image"], False),
        (MISFIT, [], False),
        (RuntimeError("CUDA error: unspecified launch failure"), ["image", "image"], False),
        (ValueError("The size of tensor a (8)"), ["image", "image"], False),
    ],
)
def test_pictures_that_only_the_model_refuses(error, params, refused):
    found = of_first_forward(error, [Upload(param, "hash", 1) for param in params])
    assert (found.param if found else None) == ("image" if refused else None)
