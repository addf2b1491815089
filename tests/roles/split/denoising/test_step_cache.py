"""Step caches: a request's own, those of diffusers, and nothing to anybody else."""

import contextlib
from dataclasses import replace

import diffusers.hooks
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.hooks.hooks import CacheContext, _set_cache_context

from roles.split.denoising.batching import key_of
from roles.split.denoising.step_cache import Hooks, Unsupported, supported
from roles.split.loading import load
from roles.split.program import Call, Unavailable
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, drive, plain, same
from transfer.messages import Inputs, Speed, StepCache

STEPS = 6
FIRST_BLOCK = StepCache("first_block", threshold=0.6)
TAYLORSEER = StepCache("taylorseer", interval=3)
PYRAMID = StepCache("pyramid", interval=2)
CONFIGS = {
    FIRST_BLOCK: lambda pipe: diffusers.hooks.FirstBlockCacheConfig(threshold=0.6),
    TAYLORSEER: lambda pipe: diffusers.hooks.TaylorSeerCacheConfig(cache_interval=3),
    PYRAMID: lambda pipe: diffusers.hooks.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        current_timestep_callback=lambda: pipe.current_timestep,
    ),
}
CASES = [
    ("flux", FIRST_BLOCK),
    ("flux", TAYLORSEER),
    ("flux", PYRAMID),
    ("qwenimage", TAYLORSEER),
    ("wan22", FIRST_BLOCK),
    ("ltx", PYRAMID),
]


def params(name):
    return {**PARAMS[name], "num_inference_steps": STEPS}


def request(name, seed, cache=None, exact=False):
    return Call(f"r{seed}", Inputs(params(name), seed, exact=exact, step_cache=cache))


def cached_plain(folder, name, seed, cache):
    """What a diffusers user gets who has enabled the cache."""
    pipeline = DiffusionPipeline.from_pretrained(folder(name))
    pipeline.set_progress_bar_config(disable=True)
    for part in ("transformer", "transformer_2"):
        if getattr(pipeline, part, None) is not None:
            getattr(pipeline, part).enable_cache(CONFIGS[cache](pipeline))
    output = pipeline(
        **params(name), output_type="pil", generator=torch.Generator("cpu").manual_seed(seed)
    )
    found = list(output.get("images", ())) + list(*output.get("frames", ()))
    return [np.asarray(each) for each in found]


def interleave(denoisings):
    for each in denoisings:
        each.start()
    while running := [each for each in denoisings if not each.done]:
        for each in running:
            each.resume([it.run() for it in each.pending])


def hooked(module):
    """The parts of a module on which there is anything of a step cache."""
    return [
        part
        for part in module.modules()
        if "forward" in part.__dict__
        or "_cache_config" in part.__dict__
        or (part.__dict__.get("_diffusers_hook") and part._diffusers_hook.hooks)
    ]


@pytest.mark.parametrize(("name", "cache"), CASES)
def test_requests_that_take_turns_have_the_pixels_of_diffusers_own_cache(
    name, cache, folder, program
):
    encoder, denoiser, decoder = (program(name, r) for r in ("encoder", "denoiser", "decoder"))
    asked = [request(name, 1, cache), request(name, 2), request(name, 3, cache)]
    denoisings = [denoiser.denoise(each, encoder.encode(each)) for each in asked]
    interleave(denoisings)
    cached, bare, other = (
        arrays(decoder.decode(each, denoising.result()))
        for each, denoising in zip(asked, denoisings, strict=True)
    )
    without = plain(folder(name), params(name), 1)
    assert same(cached, cached_plain(folder, name, 1, cache))
    assert not same(cached, without), "nothing was skipped: the test shows nothing"
    assert same(other, cached_plain(folder, name, 3, cache))
    assert same(bare, plain(folder(name), params(name), 2))
    assert hooked(denoiser.pipeline.transformer) == []


def test_two_kinds_of_caches_take_turns(folder, program):
    encoder, denoiser, decoder = (program("flux", r) for r in ("encoder", "denoiser", "decoder"))
    weaker = StepCache("first_block", threshold=0.3)
    caches = [FIRST_BLOCK, TAYLORSEER, PYRAMID, weaker]
    asked = [request("flux", 5, cache) for cache in caches]
    denoisings = [denoiser.denoise(each, encoder.encode(each)) for each in asked]
    interleave(denoisings)
    made = [
        arrays(decoder.decode(each, denoising.result()))
        for each, denoising in zip(asked, denoisings, strict=True)
    ]
    for pixels, cache in zip(made, caches[:3], strict=False):
        assert same(pixels, cached_plain(folder, "flux", 5, cache))
    assert not same(made[0], made[3])


def test_a_model_without_diffusers_switch_has_the_first_block_all_the_same(program):
    """Z-Image has no `enable_cache`, and its pipeline names no context."""
    whole, cache = program("zimage", "monolithic"), StepCache("first_block", threshold=0.8)
    cached = arrays(drive(whole.generate(request("zimage", 4, cache))))
    bare = arrays(drive(whole.generate(request("zimage", 4))))
    pipeline = whole.pipeline
    transformer = pipeline.transformer
    config = diffusers.hooks.FirstBlockCacheConfig(threshold=0.8)
    diffusers.hooks.apply_first_block_cache(transformer, config)
    _set_cache_context(transformer, CacheContext("any"))
    try:
        expected = pipeline(
            **params("zimage"), generator=torch.Generator("cpu").manual_seed(4)
        ).images
    finally:
        for part in transformer.modules():
            if (registry := part.__dict__.get("_diffusers_hook")) is not None:
                for hook in list(registry.hooks):
                    registry.remove_hook(hook, recurse=False)
                part.__dict__.pop("forward", None)
    assert same(cached, [np.asarray(each) for each in expected])
    assert not same(cached, bare)


def test_cancelled_and_failed_requests_leave_nothing(program):
    encoder, denoiser = program("flux", "encoder"), program("flux", "denoiser")
    asked = request("flux", 1, FIRST_BLOCK)
    denoising = denoiser.denoise(asked, encoder.encode(asked))
    denoising.start()
    denoising.resume([it.run() for it in denoising.pending])
    (pending,) = denoising.pending
    with pytest.raises(TypeError):
        replace(pending, args=(), kwargs={"nonsense": 1}, context=None).run()
    assert hooked(denoiser.pipeline.transformer) == []
    denoising.cancel()
    kept = [
        state
        for attributes in pending.hooks._mounted.values()
        for hook in attributes["_diffusers_hook"].hooks.values()
        for state in hook.state_manager._state_cache
    ]
    assert kept == []


def test_a_request_with_a_cache_shares_no_forward_and_the_others_do(program):
    encoder, denoiser = program("flux", "encoder"), program("flux", "denoiser")
    keys = []
    for asked in (request("flux", 1), request("flux", 2), request("flux", 3, FIRST_BLOCK)):
        denoising = denoiser.denoise(asked, encoder.encode(asked))
        denoising.start()
        keys.append(key_of(denoising.pending[0]))
        denoising.cancel()
    assert keys[0] == keys[1] is not None
    assert keys[2] is None


@pytest.mark.parametrize(
    ("name", "caches"),
    [
        ("flux", ["first_block", "taylorseer", "pyramid"]),
        ("wan", ["first_block", "pyramid"]),
        ("zimage", ["first_block"]),
        ("sdxl", []),
    ],
)
def test_what_a_model_can_is_told(name, caches, program):
    assert program(name, "denoiser").info.step_caches == caches
    assert program(name, "encoder").info.step_caches == []


def test_what_it_cannot_is_refused(program):
    denoiser = program("sdxl", "denoiser")
    asked = request("sdxl", 1, FIRST_BLOCK)
    with pytest.raises(Unavailable, match="no step cache first_block") as refused:
        denoiser.denoise(asked, {"kept": []})
    assert refused.value.param == "step_cache"
    with pytest.raises(Unsupported):
        Hooks(denoiser.pipeline.unet, FIRST_BLOCK)
    assert hooked(denoiser.pipeline.unet) == []
    assert supported(denoiser.pipeline, denoiser.pipeline.unet) == []


def test_pyramid_is_refused_where_guidance_is_two_forwards(program):
    encoder, denoiser = program("wan", "encoder"), program("wan", "denoiser")
    asked = request("wan", 1, PYRAMID)
    with pytest.raises(Unavailable, match="two forwards"):
        drive(denoiser.denoise(asked, encoder.encode(asked)))


def test_exact_does_not_go_with_it(program):
    with pytest.raises(Unavailable, match=r"exact .* step-cache=first_block:0.6") as refused:
        program("flux", "denoiser").denoise(request("flux", 1, FIRST_BLOCK, exact=True), {})
    assert refused.value.param == "exact"


def test_the_payload_tells_what_was_on(program):
    encoder, denoiser = program("flux", "encoder"), program("flux", "denoiser")
    for cache, told in ((FIRST_BLOCK, "step-cache=first_block:0.6"), (None, None)):
        asked = request("flux", 1, cache)
        result = drive(denoiser.denoise(asked, encoder.encode(asked)))
        assert result.get("speed") == told


def test_a_request_can_do_without_what_its_denoiser_does_by_itself(folder, program):
    encoder = program("flux", "encoder")
    cached = load(folder("flux"), ["denoiser"], speed=Speed(step_cache=FIRST_BLOCK))
    by_itself, without = request("flux", 1), request("flux", 1, StepCache("none"), exact=True)
    one, other = (
        drive(cached.denoise(each, encoder.encode(each))) for each in (by_itself, without)
    )
    assert one["speed"] == "step-cache=first_block:0.6"
    assert "speed" not in other
    plain = drive(program("flux", "denoiser").denoise(request("flux", 1), encoder.encode(without)))
    assert torch.equal(other["decodes"][0][1][0], plain["decodes"][0][1][0])
    assert not torch.equal(one["decodes"][0][1][0], plain["decodes"][0][1][0])


def test_hooks_of_others_stay_underneath(program):
    transformer = program("flux", "denoiser").pipeline.transformer
    block = transformer.transformer_blocks[0]
    calls = []
    original = block.forward
    block.forward = lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
    mine = block.__dict__["forward"]
    try:
        hooks = Hooks(transformer, FIRST_BLOCK)
        with hooks.on(None, {}):
            assert block.__dict__["forward"] is not mine
            with contextlib.suppress(TypeError):
                block(torch.zeros(1, 4, 32), torch.zeros(1, 4, 32))
        assert calls == [1]
        assert block.__dict__["forward"] is mine
    finally:
        del block.__dict__["forward"]
