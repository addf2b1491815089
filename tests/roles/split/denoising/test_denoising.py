"""Requests at the transformer's door: taking turns, counting, cancelling, failing."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.hooks import FirstBlockCacheConfig

from roles.split.program import Cancelled, Unsplittable
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, drive, plain, same


def interleave(*denoisings):
    """One forward of each in turn, the later ones joining later."""
    waiting, running = list(denoisings), []
    while waiting or running:
        if waiting:
            running.append(waiting.pop(0))
            running[-1].start()
        for each in running:
            each.resume([it.run() for it in each.pending])
        running = [each for each in running if not each.done]


def requests(name, *seeds):
    steps = (3, 5, 2, 4)
    return [
        call({**PARAMS[name], "num_inference_steps": steps[i % 4]}, seed, f"r{i}")
        for i, seed in enumerate(seeds)
    ]


@pytest.mark.parametrize("name", ["zimage", "sd15_ancestral", "wan", "pixart"])
def test_requests_that_take_turns_are_each_exact(name, folder, program):
    roles = [program(name, role) for role in ("encoder", "denoiser", "decoder")]
    encoder, denoiser, decoder = roles
    asked = requests(name, 7, 8, 9)
    denoisings = [denoiser.denoise(each, encoder.encode(each)) for each in asked]
    interleave(*denoisings)
    for each, denoising in zip(asked, denoisings, strict=True):
        made = decoder.decode(each, denoising.result())
        assert same(arrays(made), plain(folder(name), each.inputs.params, each.inputs.seed))


def test_whole_pipelines_take_turns_too(folder, program):
    whole = program("sd15", "monolithic")
    asked = requests("sd15", 1, 2)
    denoisings = [whole.generate(each) for each in asked]
    interleave(*denoisings)
    for each, denoising in zip(asked, denoisings, strict=True):
        assert same(
            arrays(denoising.result()), plain(folder("sd15"), each.inputs.params, each.inputs.seed)
        )


def test_steps_are_counted(program):
    request = call(PARAMS["sd15"])
    denoising = program("sd15", "denoiser").denoise(
        request, program("sd15", "encoder").encode(request)
    )
    assert (denoising.step, denoising.steps, denoising.pending) == (0, 3, ())
    denoising.start()
    seen = []
    while not denoising.done:
        seen.append((denoising.step, denoising.steps))
        denoising.resume([it.run() for it in denoising.pending])
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert denoising.step == 3
    assert denoising.pending == ()


def test_the_pending_call_is_the_pipelines_own(program):
    denoiser = program("wan", "denoiser")
    request = call(PARAMS["wan"], request="mine", exact=True)
    denoising = denoiser.denoise(request, program("wan", "encoder").encode(request))
    denoising.start()
    (pending,) = denoising.pending
    assert pending.name == "transformer"
    assert pending.module is denoiser.pipeline.transformer
    assert pending.kwargs["hidden_states"].shape == (1, 16, 3, 4, 4)
    assert pending.context == "mine/cond"
    denoising.resume([pending.run()])
    assert [each.context for each in denoising.pending] == ["mine/uncond"]
    denoising.cancel()


@pytest.mark.parametrize("forwards", [None, 0, 1, 2])
def test_a_cancelled_request_ends_where_it_stands(forwards, program):
    denoiser = program("zimage", "denoiser")
    request = call(PARAMS["zimage"])
    denoising = denoiser.denoise(request, program("zimage", "encoder").encode(request))
    if forwards is not None:
        denoising.start()
        for _ in range(forwards):
            denoising.resume([it.run() for it in denoising.pending])
    denoising.cancel()
    denoising.cancel()
    assert denoising.done
    assert denoising.pending == ()
    with pytest.raises(Cancelled, match="request r"):
        denoising.result()


def test_an_error_of_the_pipeline_is_the_requests(program):
    request = call(PARAMS["sd15"], exact=True)
    denoising = program("sd15", "denoiser").denoise(
        request, program("sd15", "encoder").encode(request)
    )
    denoising.start()
    denoising.resume([(torch.zeros(1, 4, 4, 4),)])
    assert denoising.done
    with pytest.raises(ValueError, match="not enough values"):
        denoising.result()


def test_a_replay_that_runs_out_says_so(program):
    request = call(PARAMS["sd15"])
    denoising = program("sd15", "denoiser").denoise(request, {"kept": []})
    denoising.start()
    with pytest.raises(Unsplittable, match="it encodes once its denoiser has begun") as caught:
        denoising.result()
    assert "text_encoder.__call__, whose weights are not in this role" in str(
        caught.value.__cause__
    )


def test_global_randomness_is_each_requests_own(program):
    shared = program("zimage", "encoder", "denoiser", "decoder")
    scheduler = shared.pipeline.scheduler
    config = {**scheduler.config, "stochastic_sampling": True}
    shared.pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    try:
        asked = requests("zimage", 1, 2)
        before = torch.get_rng_state()
        alone = [drive(shared.denoise(each, shared.encode(each))) for each in asked]
        together = [shared.denoise(each, shared.encode(each)) for each in asked]
        interleave(*together)
        assert torch.equal(before, torch.get_rng_state())
    finally:
        shared.pipeline.scheduler = scheduler
    for one, other in zip(alone, together, strict=True):
        latents, others = (each["decodes"][0][1][0] for each in (one, other.result()))
        assert torch.equal(latents, others)


def test_step_caches_are_each_requests_own(program):
    denoiser, encoder = program("wan", "denoiser"), program("wan", "encoder")
    transformer = denoiser.pipeline.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    try:
        asked = requests("wan", 1, 2, 3)
        alone = [drive(denoiser.denoise(each, encoder.encode(each))) for each in asked]
        together = [denoiser.denoise(each, encoder.encode(each)) for each in asked]
        interleave(*together)
        left = [
            name
            for module in transformer.modules()
            if hasattr(module, "_diffusers_hook")
            for hook in module._diffusers_hook.hooks.values()
            if hasattr(hook, "state_manager")
            for name in hook.state_manager._state_cache
        ]
    finally:
        transformer.disable_cache()
    assert left == []
    for one, other in zip(alone, together, strict=True):
        latents, others = (each["decodes"][0][1][0] for each in (one, other.result()))
        assert torch.equal(latents, others)
