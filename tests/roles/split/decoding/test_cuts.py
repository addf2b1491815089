"""What lies on either side of the denoiser, and how it is told that something does not."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AnimateDiffSparseControlNetPipeline,
    StableCascadePriorPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)

from roles.split.decoding import skipping
from roles.split.decoding.boundary import Boundary, Given, decodes_several_times
from roles.split.decoding.skipping import Zeros
from roles.split.decoding.sparing import Sparing
from roles.split.denoising.forward import Outputs
from roles.split.encoding.reading import Reading
from roles.split.encoding.recollection import Recollection
from roles.split.encoding.recording import Recorder
from roles.split.encoding.replay import Replay
from roles.split.face import NotHere
from roles.split.files.components import part_of
from roles.split.loading import _real_parts
from roles.split.program import Unsplittable
from roles.split.randomness import GlobalRandomness
from roles.split.request.given import media_arguments
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, same, through_roles


def boundary() -> Boundary:
    return Boundary("APipeline", torch.Generator(), several=False)


def test_unets_of_two_kinds_are_denoisers_both():
    assert part_of("image_unet") == part_of("text_unet") == "denoiser"


def test_frames_that_a_pipeline_is_shown_are_for_its_vae():
    assert "decoder" in _real_parts(AnimateDiffSparseControlNetPipeline, ["encoder"])
    assert "decoder" not in _real_parts(StableDiffusionPipeline, ["encoder"])


def test_what_is_called_images_is_a_list_even_of_one():
    arguments = media_arguments(StableCascadePriorPipeline.__call__)
    assert arguments["images"].several
    assert not media_arguments(StableDiffusionImg2ImgPipeline.__call__)["image"].several


def test_what_decodes_in_batches_is_led_on_after_the_first():
    class Batches:
        def __call__(self, image, batch_size=1): ...

    class Once:
        def __call__(self, prompt): ...

    assert decodes_several_times(Batches, ["vae"])
    assert not decodes_several_times(Once, ["vae"])
    assert decodes_several_times(Once, ["vae", "vocoder"])


def test_a_pipeline_that_encodes_after_its_denoiser_is_for_monolithic(program):
    def view(**arguments):
        raise NotHere("the pipeline wants text_encoder.__call__")

    with pytest.raises(Unsplittable, match="it encodes once its denoiser has begun"):
        program("sd15", "denoiser")._run_to(boundary(), view, {})


def test_what_was_computed_without_weights_is_not_decoded(program):
    vae = program("sd15", "denoiser").pipeline.vae
    latents = torch.zeros(1, 4, 4, 4, device="meta")
    with pytest.raises(Unsplittable, match="it computes with vae between its denoiser and"):
        boundary().take("vae", vae, (), {"z": [latents]})


def test_a_module_of_the_vae_that_is_called_by_itself_is_kept_and_replayed(program):
    """Such as the quantizer of a VAE of tokens."""
    whole, generator = program("sd15", "monolithic"), torch.Generator()
    memory = Recollection(None, Reading({}), GlobalRandomness(0, torch.device("cpu")))
    recorder = Recorder(generator, memory)
    face = whole._encoder_face("vae", whole.pipeline.vae, recorder, None)
    moments = torch.ones(1, 8, 2, 2)
    given = face.quant_conv(moments)
    assert torch.equal(given, whole.pipeline.vae.quant_conv(moments))
    assert face.quant_conv.weight is whole.pipeline.vae.quant_conv.weight
    assert [name for name, *_ in recorder.kept] == ["vae.quant_conv"]
    assert Replay(recorder.kept, generator).of("vae")["quant_conv"](moments) is given


def test_a_loop_that_is_run_with_zeros_has_them_in_the_forms_of_the_denoiser():
    outputs = Outputs()
    outputs.note(0, [torch.ones(1, 2), torch.ones(3)])  # a ControlNet's
    outputs.note(1, (torch.ones(1, 4, 2, 2),))
    forward = Zeros(outputs.tree())
    assert [each.tolist() for each in forward("anything")] == [[[0.0, 0.0]], [0.0] * 3]
    assert forward(sample=torch.ones(5))[0].shape == (1, 4, 2, 2)
    assert forward(sample=torch.ones(5)).sample.tolist() == [0.0] * 5  # one more than there were


def test_a_forward_after_a_decode_that_the_denoiser_did_not_come_to_has_no_roles():
    """A film's tiles, for example, each of which is added up when it is decoded."""
    outputs = Outputs()
    outputs.note(0, torch.ones(2))
    generator = torch.Generator()
    decode = ("vae", [torch.ones(2)], {}, generator.get_state())
    decodes = Given("FilmPipeline", [decode], generator, Sparing("r", exact=False))
    forward = Zeros(outputs.tree(), decodes)
    assert forward(torch.ones(2)).tolist() == [0.0, 0.0]
    decodes.decode("vae", SimpleNamespace(decode=lambda latents: latents), (), {})
    with pytest.raises(Unsplittable, match="before it decodes the rest"):
        forward(torch.ones(2))


@pytest.mark.parametrize("error", [ValueError("no timesteps"), UnboundLocalError("noise_pred")])
def test_a_loop_that_cannot_be_left_out_is_run_with_zeros(error, program, monkeypatch):
    """What is before it reads the timesteps, or what is after it a variable of its body."""
    roles = [program("sd15", role) for role in ("encoder", "denoiser", "decoder")]
    decoder, request = roles[2], call(PARAMS["sd15"])
    known = arrays(through_roles(*roles, request))

    monkeypatch.setattr(decoder, "_skip", "empty")
    monkeypatch.setattr(skipping, "empty_schedule", lambda scheduler: _broken(scheduler, error))
    assert same(arrays(through_roles(*roles, request)), known)
    assert decoder._skip == "zeros"


def _broken(scheduler, error):
    def set_timesteps(*args, **kwargs):
        raise error

    scheduler.set_timesteps = set_timesteps


def test_what_a_pipeline_does_to_a_list_that_it_was_given_stays_with_it():
    """A T2I adapter's features are doubled for guidance, in the list that the adapter gave."""
    generator = torch.Generator()
    memory = Recollection(None, Reading({}), GlobalRandomness(0, torch.device("cpu")))
    recorder = Recorder(generator, memory)
    adapter = recorder.watch("adapter", torch.nn.Identity())
    first = adapter([torch.ones(1)])
    first[0] = None
    for _ in range(2):
        replayed = Replay(recorder.kept, generator).of("adapter")["__call__"]()
        assert replayed[0].tolist() == [1.0]
        replayed[0] = None


def test_what_a_model_keeps_in_its_outputs_cannot_be_told_elsewhere() -> None:
    outputs = Outputs()
    outputs.note(0, (torch.ones(2), None, {"sample": [torch.ones(1)]}))
    assert outputs.crosses
    outputs.note(1, (torch.ones(2), object()))
    assert not outputs.crosses
