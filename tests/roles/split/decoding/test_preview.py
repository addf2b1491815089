"""Previews: pictures of a loop that goes on as if nobody had looked."""

import logging

import numpy as np
import pytest
import torch

from roles.split.decoding.preview import Looks
from roles.split.program import NoPreview
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, cross, same, through_roles

# nobody asks for previews of videos and sounds, so one family of them is enough
SHOWN = ["flux", "flux2_klein", "lcm", "pixart", "qwenimage", "sd15", "sd15_ancestral", "sd3"]
SHOWN += ["sdxl", "wan", "zimage"]


def watched(denoising):
    """The payload of the denoising, and of a preview at each forward after the first step."""
    previews = []
    denoising.start()
    while not denoising.done:
        if denoising.step:
            previews.append((denoising.step, denoising.preview()))
        denoising.resume([call.run() for call in denoising.pending])
    return denoising.result(), previews


@pytest.mark.parametrize("name", SHOWN)
def test_previews_can_be_decoded_and_change_nothing(name, program):
    encoder, denoiser, decoder = (program(name, r) for r in ("encoder", "denoiser", "decoder"))
    request = call(PARAMS[name], seed=5)
    state = torch.get_rng_state()
    result, previews = watched(denoiser.denoise(request, cross(encoder.encode(request))))
    made = arrays(decoder.decode(request, cross(result)))
    assert same(made, arrays(through_roles(encoder, denoiser, decoder, request)))
    assert torch.equal(torch.get_rng_state(), state)
    assert {step for step, _ in previews} == {1, 2}
    for _, payload in previews:
        seen = arrays(decoder.decode(request, cross(payload)))
        assert [each.shape for each in seen] == [each.shape for each in made]
        assert not same(seen, made)


@pytest.mark.parametrize("name", ["sd15", "flux", "zimage"])
def test_a_preview_is_small_and_its_request_goes_on_beside_others(name, program):
    encoder, denoiser, decoder = (program(name, r) for r in ("encoder", "denoiser", "decoder"))
    requests = [call(PARAMS[name], seed, f"r{seed}") for seed in (1, 2)]
    alone = [arrays(through_roles(encoder, denoiser, decoder, each)) for each in requests]
    running = [denoiser.denoise(each, encoder.encode(each)) for each in requests]
    for each in running:
        each.start()
    while not running[0].done:
        for each in running:
            each.resume([call.run() for call in each.pending])
            if each.step and not each.done:
                running[0].preview()
    for each, request, expected in zip(running, requests, alone, strict=True):
        assert same(arrays(decoder.decode(request, each.result())), expected)


def test_before_the_first_step_there_is_nothing_to_see(program):
    request = call(PARAMS["sd15"])
    denoising = program("sd15", "denoiser").denoise(
        request, program("sd15", "encoder").encode(request)
    )
    denoising.start()
    with pytest.raises(NoPreview, match="not taken a step"):
        denoising.preview()
    denoising.cancel()


@pytest.mark.parametrize("name", ["flux", "sd15", "qwenimage"])
def test_a_whole_pipeline_shows_what_its_roles_would(name, program):
    encoder, denoiser, decoder = (program(name, r) for r in ("encoder", "denoiser", "decoder"))
    request = call(PARAMS[name], seed=5)
    _, payloads = watched(denoiser.denoise(request, encoder.encode(request)))
    made, previews = watched(program(name, "monolithic").generate(request))
    assert same(arrays(made), arrays(through_roles(encoder, denoiser, decoder, request)))
    assert len(previews) == len(payloads) > 0
    for (_, seen), (_, payload) in zip(previews, payloads, strict=True):
        assert same(arrays(seen), arrays(decoder.decode(request, payload)))


def test_a_pipeline_that_cannot_be_shown_says_so_once(program, caplog, monkeypatch):
    request = call(PARAMS["sd15"], seed=3)
    encoder, denoiser, decoder = (program("sd15", r) for r in ("encoder", "denoiser", "decoder"))
    expected = arrays(through_roles(encoder, denoiser, decoder, request))
    denoising = denoiser.denoise(request, encoder.encode(request))
    denoising.start()
    denoising.resume([call.run() for call in denoising.pending])
    while not denoising.step:
        denoising.resume([call.run() for call in denoising.pending])
    monkeypatch.setattr(denoiser, "_looks", Looks(denoiser.info.pipeline))

    def broken(*args: object) -> None:
        raise RuntimeError("it wants data")

    monkeypatch.setattr(denoiser, "_run_to", broken)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(NoPreview, match="it wants data"):
                denoising.preview()
    assert [record.getMessage() for record in caplog.records] == [
        "StableDiffusionPipeline gives no previews"
    ]
    monkeypatch.undo()
    while not denoising.done:
        denoising.resume([call.run() for call in denoising.pending])
    assert same(arrays(decoder.decode(request, denoising.result())), expected)


def test_the_last_preview_of_a_flow_is_near_the_picture(program):
    """One step before its end a loop with a first-order solver has little left to change."""
    encoder, denoiser, decoder = (program("sd3", r) for r in ("encoder", "denoiser", "decoder"))
    request = call({**PARAMS["sd3"], "num_inference_steps": 20}, seed=1)
    result, previews = watched(denoiser.denoise(request, encoder.encode(request)))
    (made,) = arrays(decoder.decode(request, result))
    apart = []
    for _, payload in (previews[0], previews[-1]):
        (seen,) = arrays(decoder.decode(request, payload))
        apart.append(float(np.abs(seen.astype(float) - made).mean()))
    assert apart[1] < apart[0]
