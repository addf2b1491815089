"""A request goes on from the middle of its loop, in another process, to the same bits."""

import functools

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SASolverScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.hooks import FirstBlockCacheConfig

from roles.split.denoising import answers
from roles.split.denoising.together import Together
from tests.support.model_parts import SD_BETAS
from tests.support.pipelines import PARAMS
from tests.support.portable import checkpoint_at, equal, resumed, run_to_end
from tests.support.splitting import arrays, call, cross, drive, plain, same

STEPS = 5
MOMENTS = (1, 3, STEPS - 1)
FAMILIES = [
    "flux",
    "flux2_klein",
    "lcm",
    "ltx",
    "qwenimage",
    "sd15",
    "sd15_ancestral",
    "sd3",
    "sdxl",
]
FAMILIES += ["wan", "wan22", "zimage"]
HIDDEN = ["animatediff", "ltx2", "pixart", "stable_audio"]
BETAS = {name: value for name, value in SD_BETAS.items() if name.startswith("beta")}
SD_SAMPLERS = {
    "ddim": DDIMScheduler(clip_sample=False, **BETAS),
    "ddpm": DDPMScheduler(clip_sample=False, **BETAS),
    "deis": DEISMultistepScheduler(**BETAS),
    "dpm++": DPMSolverMultistepScheduler(**BETAS),
    "dpm++ karras": DPMSolverMultistepScheduler(use_karras_sigmas=True, **BETAS),
    "dpm++ sde": DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **BETAS),
    "dpm++ single": DPMSolverSinglestepScheduler(**BETAS),
    "euler": EulerDiscreteScheduler(**BETAS),
    "euler ancestral": EulerAncestralDiscreteScheduler(**BETAS),
    "heun": HeunDiscreteScheduler(**BETAS),
    "lcm": LCMScheduler(**BETAS),
    "pndm": PNDMScheduler(**BETAS),
    "sa": SASolverScheduler(**BETAS),
    "tcd": TCDScheduler(**BETAS),
    "unipc": UniPCMultistepScheduler(**BETAS),
}
_FLOWS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
FLOW_SAMPLERS = {
    "heun": FlowMatchHeunDiscreteScheduler(shift=2.0),
    "dpm++": DPMSolverMultistepScheduler(**_FLOWS),
    "stochastic": FlowMatchEulerDiscreteScheduler(shift=2.0, stochastic_sampling=True),
    "unipc": UniPCMultistepScheduler(**_FLOWS),
}


def request(name, seed=7, steps=STEPS, **params):
    return call({**PARAMS[name], "num_inference_steps": steps, **params}, seed)


@pytest.fixture
def with_scheduler(program):
    """A program whose pipeline has another timestep scheduler for the length of a test."""
    changed = []

    def get(name, scheduler):
        shared = program(name, "encoder", "denoiser", "decoder")
        changed.append((shared.pipeline, shared.pipeline.scheduler))
        shared.pipeline.scheduler = scheduler
        return shared

    yield get
    for pipeline, scheduler in reversed(changed):
        pipeline.scheduler = scheduler


def check_moments(program, asked, payload):
    """From each of three moments the request goes on to the end that it has anyhow."""
    undisturbed = program.denoise(asked, payload)
    undisturbed.start()
    forwards = run_to_end(undisturbed)
    for moment in MOMENTS:
        left = program.denoise(asked, payload)
        left.start()
        checkpoint = checkpoint_at(left, moment)
        again = resumed(program, asked, checkpoint)
        assert (again.step, checkpoint.step) == (moment, moment)
        assert again.steps == undisturbed.steps
        assert run_to_end(again) < forwards
        run_to_end(left)  # whoever is looked at goes on as if it was not
        assert equal(again.result(), undisturbed.result())
        assert equal(left.result(), undisturbed.result())
    return undisturbed.result()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_goes_on_to_the_pixels_of_the_plain_pipeline(name, folder, program):
    asked = request(name)
    shared = program(name, "encoder", "denoiser", "decoder")
    result = check_moments(shared, asked, shared.encode(asked))
    made = arrays(shared.decode(asked, result))
    assert same(made, plain(folder(name), asked.inputs.params, asked.inputs.seed, "float32"))


@pytest.mark.parametrize("sampler", SD_SAMPLERS)
def test_every_sampler_of_noise_goes_on(sampler, with_scheduler):
    shared, asked = with_scheduler("sd15", SD_SAMPLERS[sampler]), request("sd15")
    check_moments(shared, asked, shared.encode(asked))


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_every_sampler_of_flows_goes_on(sampler, with_scheduler):
    shared, asked = with_scheduler("wan", FLOW_SAMPLERS[sampler]), request("wan")
    check_moments(shared, asked, shared.encode(asked))


def test_random_numbers_that_are_not_the_generators_go_on(with_scheduler):
    shared, asked = with_scheduler("zimage", FLOW_SAMPLERS["stochastic"]), request("zimage")
    check_moments(shared, asked, shared.encode(asked))


def test_a_request_moves_again_and_again(program):
    shared, asked = program("sd15_ancestral", "encoder", "denoiser"), request("sd15_ancestral")
    payload = shared.encode(asked)
    undisturbed = drive(shared.denoise(asked, payload))
    moving = shared.denoise(asked, payload)
    moving.start()
    for moment in range(1, STEPS):
        moving = resumed(shared, asked, checkpoint_at(moving, moment))
    assert run_to_end(moving) == 1
    assert equal(moving.result(), undisturbed)


def test_what_has_moved_is_shown_at_once(program):
    """Before its next step there is only the latents; after it, what the step predicts."""
    shared = program("zimage", "encoder", "denoiser", "decoder")
    asked = request("zimage")
    left = shared.denoise(asked, shared.encode(asked))
    left.start()
    checkpoint = checkpoint_at(left, 2)
    again = resumed(shared, asked, checkpoint)
    given = again.preview()["decodes"][0][1][0]
    vae = shared.pipeline.vae.config
    latents = checkpoint.payload["snapshot"]["tensors"]["latents"]
    assert torch.equal(given, latents / vae.scaling_factor + vae.shift_factor)
    for denoising in (left, again):
        while denoising.step < 3:
            denoising.resume([call.run() for call in denoising.pending])
    assert equal(again.preview(), left.preview())
    assert run_to_end(again) == run_to_end(left)
    assert equal(again.result(), left.result())


@pytest.mark.parametrize("name", ["qwenimage", "wan"])
def test_branches_that_waited_together_are_passed_over(name, program):
    """A checkpoint at a step whose branches of guidance were asked for before any was computed."""
    shared, asked = program(name, "encoder", "denoiser"), request(name)
    payload = shared.encode(asked)
    undisturbed = drive(shared.denoise(asked, payload))
    left = shared.denoise(asked, payload)
    left.start()
    while left.step < 2:
        left.resume([call.run() for call in left.pending])
    assert len(left.pending) == 2
    again = resumed(shared, asked, checkpoint_at(left, 3))
    left.cancel()
    assert len(again.pending) == 2
    run_to_end(again)
    assert equal(again.result(), undisturbed)


def test_a_checkpoint_is_as_of_its_step_whatever_comes_after(program):
    shared, asked = program("zimage", "encoder", "denoiser"), request("zimage")
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    checkpoint = checkpoint_at(denoising, 2)
    run_to_end(denoising)
    again = resumed(shared, asked, checkpoint)
    assert run_to_end(again) == STEPS - 2
    assert equal(again.result(), denoising.result())


def share(denoisings):
    """Runs started denoisings to their ends, all of them in each forward."""
    together = Together()
    while not denoisings[0].done:
        calls = [call for each in denoisings for call in each.pending]
        results = iter(together.run(calls, "one form").results)
        for each in denoisings:
            if each.step == 1:
                each.mark()
            each.resume([next(results) for _ in each.pending])
    return [each.result() for each in denoisings]


def test_requests_that_share_their_forwards_move_too(program):
    shared = program("sd15_ancestral", "encoder", "denoiser")
    asked = [request("sd15_ancestral", seed) for seed in (1, 2)]
    both = [shared.denoise(each, shared.encode(each)) for each in asked]
    for denoising in both:
        denoising.start()
    undisturbed = share(both)
    moved = [resumed(shared, each, left.checkpoint) for each, left in zip(asked, both, strict=True)]
    assert [each.step for each in moved] == [2, 2]
    assert equal(share(moved), undisturbed)


def test_a_request_that_has_no_more_steps_gives_no_checkpoint(program):
    shared, asked = program("zimage", "encoder", "denoiser"), request("zimage", steps=1)
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    denoising.mark()
    run_to_end(denoising)
    assert denoising.checkpoint is None


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_its_state_is_answered_what_its_forwards_gave(name, program):
    """Loops within loops, a second set of latents, no callback: the pipeline runs its own program
    up to where it was, and its model computes nothing twice."""
    shared, asked = program(name, "encoder", "denoiser"), request(name)
    payload = shared.encode(asked)
    undisturbed = shared.denoise(asked, payload)
    undisturbed.start()
    forwards, expected = run_to_end(undisturbed), cross(undisturbed.result())
    moving, computed = shared.denoise(asked, payload), 0
    moving.start()
    for moment in (2, 4):
        left = moving
        before = left.forwards
        checkpoint = checkpoint_at(left, moment)
        assert checkpoint.step in (moment - 1, moment)
        moving = resumed(shared, asked, checkpoint)
        assert moving.step == checkpoint.step
        computed += moving.forwards - before
        run_to_end(left)
        assert equal(cross(left.result()), expected)
    computed += run_to_end(moving)
    assert computed == forwards
    assert equal(cross(moving.result()), expected)


def test_what_a_model_keeps_in_its_arguments_cannot_be_answered(program, monkeypatch):
    shared, asked = program("pixart", "encoder", "denoiser"), request("pixart")
    transformer = shared.pipeline.transformer
    plain_forward = transformer.forward

    def forward(hidden_states, *args, **kwargs):
        hidden_states.mul_(1.0)
        return plain_forward(hidden_states, *args, **kwargs)

    monkeypatch.setattr(transformer, "forward", functools.wraps(plain_forward)(forward))
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    checkpoint = checkpoint_at(denoising, 2)
    denoising.cancel()
    assert checkpoint.payload is None
    assert checkpoint.why_not == "PixArtAlphaPipeline: its model writes into what it is given"


def test_what_is_too_much_is_not_kept(program, monkeypatch):
    monkeypatch.setattr(answers, "MOST_BYTES", 1 << 10)
    shared, asked = program("pixart", "encoder", "denoiser"), request("pixart")
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    checkpoint = checkpoint_at(denoising, 3)
    denoising.cancel()
    assert "more than 0 MiB" in checkpoint.why_not


def test_what_a_step_cache_keeps_cannot_move(program):
    denoiser, asked = program("wan", "denoiser"), request("wan")
    transformer = denoiser.pipeline.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    try:
        denoising = denoiser.denoise(asked, program("wan", "encoder").encode(asked))
        denoising.start()
        checkpoint = checkpoint_at(denoising, 2)
        denoising.cancel()
    finally:
        transformer.disable_cache()
    assert "a step cache" in checkpoint.why_not


def test_changed_encodings_cannot_move(program):
    shared, asked = program("zimage", "encoder", "denoiser"), request("zimage")
    payload = shared.encode(asked)
    denoising = shared.denoise(asked, payload)
    denoising.start()
    (embeddings,) = payload["kept"][0][1][0]
    embeddings.mul_(2.0)
    checkpoint = checkpoint_at(denoising, 2)
    denoising.cancel()
    assert "it changes what its encoders gave" in checkpoint.why_not


def test_a_scheduler_with_something_unknown_cannot_move(program):
    shared, asked = program("zimage", "encoder", "denoiser"), request("zimage")
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    denoising._view.scheduler.sampler = object()
    checkpoint = checkpoint_at(denoising, 2)
    denoising.cancel()
    assert "scheduler.sampler is a object" in checkpoint.why_not


def test_a_step_that_the_pipeline_never_reaches_is_an_error(program):
    shared, asked = program("zimage", "encoder", "denoiser"), request("zimage")
    denoising = shared.denoise(asked, shared.encode(asked))
    denoising.start()
    checkpoint = checkpoint_at(denoising, 4)
    shorter = request("zimage", steps=3)
    again = shared.denoise(shorter, checkpoint.payload)
    again.start()
    assert again.done
    with pytest.raises(RuntimeError, match="no step 4"):
        again.result()
