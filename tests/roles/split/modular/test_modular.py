"""Pipelines that exist as blocks only: divided, described, and exact as roles. What they are tried
with is one that diffusers does not have."""

import inspect
import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance

from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.loading import load
from roles.split.modular.computing import computed, declared
from roles.split.modular.declared import call_of
from roles.split.modular.guiders import Guiders
from roles.split.modular.stages import divide
from roles.split.program import BadInput, Cancelled, ModelError, Unsplittable
from roles.split.request.inputs import arguments
from roles.split.survey import survey
from tests.conformance.modular import plain
from tests.support import made_up
from tests.support.splitting import arrays, call, cross, drive, same, through_roles

ASKED = {"prompt": "a red dream", "negative_prompt": "blue", "num_inference_steps": 3}


@pytest.fixture(scope="module")
def dream(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made_up.introduce(patch)
        yield made_up.build(tmp_path_factory.mktemp("models") / "dream")


@pytest.fixture(scope="module")
def programs(dream):
    return {role: load(dream, (role,)) for role in ("encoder", "denoiser", "decoder", "monolithic")}


def roles(programs):
    return programs["encoder"], programs["denoiser"], programs["decoder"]


def whole(folder, arguments, seed):
    (pictures,) = plain(folder, arguments, "float32", seed)
    return [np.asarray(picture) for picture in pictures]


def test_a_pipeline_of_a_later_diffusers_is_served_as_it_is(dream, programs):
    made = through_roles(*roles(programs), call(ASKED, seed=5))
    assert same(arrays(made), whole(dream, ASKED, 5))


def test_monolithic_gives_the_same(dream, programs):
    made = drive(programs["monolithic"].generate(call(ASKED, seed=5)))
    assert same(arrays(made), whole(dream, ASKED, 5))


def test_guidance_goes_to_the_guider_of_its_request_alone(dream, programs):
    asked = [call(ASKED | {"guidance_scale": scale}, 5, f"r{scale}") for scale in (1.0, 2.0, 6.0)]
    encoder, denoiser, decoder = roles(programs)
    running = [denoiser.denoise(each, cross(encoder.encode(each))) for each in asked]
    for each in running:
        each.start()
    branches = [len(each.pending) for each in running]
    while not all(each.done for each in running):
        for each in running:
            each.resume([it.run() for it in each.pending])
    assert branches == [1, 2, 2]
    for request, each in zip(asked, running, strict=True):
        made = arrays(decoder.decode(request, cross(each.result())))
        assert same(made, whole(dream, request.inputs.params, 5))


def test_roles_hold_their_own_weights_only(programs):
    held = {role: set(program.sleeper.parts) for role, program in programs.items()}
    assert held == {
        "encoder": {"reader"},
        "denoiser": {"dreamer"},
        "decoder": {"vae"},
        "monolithic": {"reader", "dreamer", "vae"},
    }


def test_what_crosses_is_what_later_blocks_read(programs):
    encoder, denoiser, _ = roles(programs)
    payload = encoder.encode(call(ASKED))
    assert payload["groups"] == {"dreams": ["text", "negative_text"]}
    assert {"text", "negative_text", "generator", "output_type"} <= payload["values"].keys()
    assert not {"prompt", "negative_prompt"} & payload["values"].keys()
    made = drive(denoiser.denoise(call(ASKED), cross(payload)))
    assert made["values"].keys() == {"latents", "output_type"}


def test_steps_are_counted_and_a_request_can_be_cancelled(programs):
    encoder, denoiser, _ = roles(programs)
    denoising = denoiser.denoise(call(ASKED), encoder.encode(call(ASKED)))
    denoising.start()
    told = []
    while not denoising.done:
        told.append((denoising.step, denoising.steps))
        denoising.resume([it.run() for it in denoising.pending])
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert (denoising.step, denoising.steps) == (3, 3)
    other = denoiser.denoise(call(ASKED), encoder.encode(call(ASKED)))
    other.start()
    other.cancel()
    with pytest.raises(Cancelled):
        other.result()


def test_the_description_has_the_inputs_of_the_blocks_and_of_the_guider(programs):
    info = programs["denoiser"].info
    known = {p.name: (p.type, p.required, p.default) for p in info.parameters}
    assert known["prompt"] == ("str", True, None)
    assert known["negative_prompt"] == ("str", False, None)
    assert known["num_inference_steps"] == ("int", False, 4)
    assert known["wildness"] == ("float", False, 1.0)
    assert known["guidance_scale"] == ("float", False, 2.0)
    assert known["guidance_start"] == ("float", False, 0.0)
    assert not {"latents", "generator"} & known.keys()
    assert (info.pipeline, info.modality) == ("DreamModularPipeline", "image")
    assert (info.splittable, info.default_size, info.size_multiple) == (True, (32, 32), 8)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": "x", "wildness": "very"}, "wildness"),
        ({"wildness": 2.0}, "prompt"),
        ({"prompt": "x", "tameness": 1.0}, "tameness"),
        ({"prompt": "x", "height": 33}, "size"),
        ({"prompt": "x", "guidance_start": 2.0}, "guidance_start"),
    ],
)
def test_bad_input_is_named(programs, given, param):
    with pytest.raises(BadInput) as caught:
        programs["encoder"].encode(call(given))
    assert caught.value.param == param


def test_every_copy_of_a_folder_has_the_same_fingerprint(dream, tmp_path, programs):
    copy = tmp_path / "copy"
    shutil.copytree(dream, copy)
    path = copy / "modular_model_index.json"
    index = json.loads(path.read_text())
    index["dreamer"][2]["pretrained_model_name_or_path"] = "somebody/dream"
    path.write_text(json.dumps(index))
    served = programs["decoder"].info.fingerprint
    assert fingerprint(find(copy)) == fingerprint(find(dream)) == served
    index["_blocks_class_name"] = "OtherBlocks"
    path.write_text(json.dumps(index))
    assert fingerprint(find(copy)) != fingerprint(find(dream))


def test_code_of_a_folder_is_never_run(dream, tmp_path):
    (tmp_path / "modular_model_index.json").write_bytes(
        (dream / "modular_model_index.json").read_bytes()
    )
    (tmp_path / "modular_config.json").write_text("{}")
    with pytest.raises(ModelError, match="its own pipeline code"):
        load(tmp_path, ("denoiser",))


def test_a_pipeline_without_a_stage_is_served_whole(dream, tmp_path, monkeypatch):
    class DreamBlocks(made_up.SequentialPipelineBlocks):
        model_name = "dream"
        block_classes = (made_up.DreamRead, DreamAll)
        block_names = ("read", "denoise")

    monkeypatch.setattr(diffusers, "DreamBlocks", DreamBlocks)
    with pytest.raises(Unsplittable, match="nothing comes after"):
        load(dream, ("denoiser",))
    made = drive(load(dream, ("monolithic",)).generate(call(ASKED, seed=5)))
    assert same(arrays(made), whole(dream, ASKED, 5))


class DreamAll(made_up.SequentialPipelineBlocks):
    model_name = "dream"
    block_classes = (made_up.DreamImagine, made_up.DreamPaint)
    block_names = ("imagine", "paint")


def test_which_components_a_block_computes_with_is_read_from_its_source():
    prepare = made_up.DreamPrepare()
    assert declared(prepare) == {"scheduler", "vae"}
    assert computed(prepare) == {"scheduler"}
    assert computed(made_up.DreamPaint()) == {"vae", "image_processor"}
    assert computed(made_up.DreamBlocks()) >= {"reader", "dreamer", "vae"}


def test_a_block_that_is_called_denoise_is_the_denoisers():
    blocks = made_up.SequentialPipelineBlocks.from_blocks_dict(
        {"text": made_up.DreamRead(), "denoise": made_up.DreamImagine(), "x": made_up.DreamPaint()}
    )
    divided = divide(blocks)
    assert {part: list(stage.blocks.sub_blocks) for part, stage in divided.items()} == {
        "encoder": ["text"],
        "denoiser": ["denoise"],
        "decoder": ["x"],
    }
    assert divided["denoiser"].components == {"dreamer", "scheduler", "guider"}


def test_what_crosses_is_told_without_weights(dream):
    found = survey(dream)
    assert [each.why_not for each in found.crossings] == [None, None]
    assert {"generator", "negative_text", "text"} <= set(found.crossings[0].names)
    assert "prompt" not in found.crossings[0].names
    assert found.crossings[1].names == ["latents", "output_type"]
    assert {each.name: each.role for each in found.components}["vae"] == "decoder"


def test_a_second_guider_has_the_rest_of_its_name_on_its_settings():
    shared = {"guider": ClassifierFreeGuidance(3.0), "audio_guider": ClassifierFreeGuidance(7.0)}
    guiders = Guiders(shared, {"guidance_rescale"})
    assert guiders.arguments["guidance_scale"].default == 3.0
    assert guiders.arguments["audio_guidance_scale"].default == 7.0
    assert "guidance_rescale" not in guiders.arguments
    own = guiders.own({"audio_guidance_scale": 2.0})
    assert (own["guider"].guidance_scale, own["audio_guider"].guidance_scale) == (3.0, 2.0)
    assert own["guider"] is not shared["guider"]


def test_a_scale_switches_on_a_guider_that_is_off_by_default():
    guiders = Guiders({"guider": ClassifierFreeGuidance(3.0, enabled=False)}, ())
    assert not guiders.own({})["guider"]._enabled
    assert guiders.own({"guidance_scale": 3.0})["guider"]._enabled
    assert not guiders.own({"guidance_scale": 3.0, "guidance_enabled": False})["guider"]._enabled


def test_a_guider_that_changes_the_model_has_its_requests_run_through(dream, programs):
    encoder, _, decoder = roles(programs)
    denoiser = load(dream, ("denoiser",))
    guider = Meddling(2.0)
    denoiser._guiders = Guiders({"guider": guider}, ())
    request = call(ASKED, seed=5)
    denoising = denoiser.denoise(request, cross(encoder.encode(request)))
    denoising.start()
    assert denoising.done
    made = decoder.decode(request, cross(denoising.result()))
    assert same(arrays(made), whole(dream, ASKED, 5))


class Meddling(ClassifierFreeGuidance):
    """Would change the model; here it leaves it as it is."""

    def prepare_models(self, denoiser):
        super().prepare_models(denoiser)


def test_types_of_inputs_are_found_where_blocks_do_not_say_them():
    class Vague(made_up.ModularPipelineBlocks):
        @property
        def inputs(self):
            return [
                made_up.InputParam("sigmas", type_hint=list | tuple),
                made_up.InputParam("scales", type_hint=list, default=(1.0, 2.0)),
                made_up.InputParam("negative_prompt_2"),
                made_up.InputParam("thing"),
            ]

    found = arguments(call_of(Vague()))
    assert {name: one.describe().type for name, one in found.items()} == {
        "sigmas": "list[float]",
        "scales": "list[float]",
        "negative_prompt_2": "str",
    }


def test_what_a_later_block_requires_of_an_earlier_one_is_not_required_of_the_request():
    named = inspect.signature(call_of(made_up.DreamBlocks())).parameters
    assert [n for n, p in named.items() if p.default is p.empty] == ["prompt"]


def test_tiles_are_shared_out_unless_a_request_is_to_be_exact(programs):
    encoder, denoiser, decoder = roles(programs)

    class Shared:
        """Ranks that share out all that they are given."""

        asked = 0

        def divides(self, module):
            return module is decoder.pipeline.vae

        def decode(self, module, decode, given):
            self.asked += 1
            return decode(), True

    tiles = Shared()
    for exact, way in ((False, "tiles"), (True, None)):
        request = call(ASKED, seed=5, exact=exact)
        payload = cross(drive(denoiser.denoise(request, cross(encoder.encode(request)))))
        decoder.tiles = tiles
        try:
            (made,) = decoder.decode(request, payload)
        finally:
            decoder.tiles = None
        assert made.decoded_in == way
    assert tiles.asked == 1


def test_what_has_no_memory_to_decode_is_decoded_in_tiles(programs, monkeypatch):
    encoder, denoiser, decoder = roles(programs)
    vae = decoder.pipeline.vae
    decode = vae.decode
    tried = []

    def tight(*args, **kwargs):
        tried.append((vae.use_slicing, vae.use_tiling))
        if not vae.use_tiling:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return decode(*args, **kwargs)

    monkeypatch.setattr(vae, "decode", tight)
    request = call(ASKED, seed=5)
    (made,) = decoder.decode(request, drive(denoiser.denoise(request, encoder.encode(request))))
    assert made.decoded_in == "tiles"
    assert tried == [(False, False), (True, False), (True, True)]
