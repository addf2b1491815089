"""Previews of modular pipelines: pictures of a loop that goes on as if nobody had looked."""

import diffusers
import pytest
import torch

from roles.split.loading import load
from roles.split.program import NoPreview
from tests.support import made_up, made_up_loops
from tests.support.portable import checkpoint_at, resumed
from tests.support.splitting import arrays, call, cross, drive, same

ASKED = {"prompt": "a red dream", "negative_prompt": "blue", "num_inference_steps": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made_up.introduce(patch)
        yield made_up.build(tmp_path_factory.mktemp("models") / "dream")


@pytest.fixture
def programs(folder, monkeypatch):
    def loaded(loop):
        monkeypatch.setattr(diffusers, "DreamBlocks", made_up_loops.blocks_of(loop))
        return {r: load(folder, (r,)) for r in ("encoder", "denoiser", "decoder", "monolithic")}

    return loaded


def watched(denoising):
    """What it gives, and the previews after its steps."""
    previews = []
    denoising.start()
    while not denoising.done:
        if denoising.step > len(previews):
            previews.append(denoising.preview())
        denoising.resume([call.run() for call in denoising.pending])
    return denoising.result(), previews


@pytest.mark.parametrize(
    "loop", [made_up.DreamLoop, made_up_loops.InPlace, made_up_loops.InAVariable]
)
def test_previews_can_be_decoded_and_change_nothing(programs, loop):
    each = programs(loop)
    request = call(ASKED, seed=5)
    records = cross(each["encoder"].encode(request))
    latents = drive(each["denoiser"].denoise(request, records))
    expected = arrays(each["decoder"].decode(request, latents))
    state = torch.get_rng_state()
    result, payloads = watched(each["denoiser"].denoise(request, records))
    assert torch.equal(torch.get_rng_state(), state)
    made = arrays(each["decoder"].decode(request, cross(result)))
    assert same(made, expected)
    assert len(payloads) == 2
    seen = [arrays(each["decoder"].decode(request, cross(payload))) for payload in payloads]
    assert all(one.shape == made[0].shape for (one,) in seen)
    assert not same(seen[0], seen[1])
    assert not same(seen[0], made)
    whole, pictures = watched(each["monolithic"].generate(request))
    assert same(arrays(whole), expected)
    assert all(map(same, map(arrays, pictures), seen))


def test_one_that_goes_on_elsewhere_is_seen_there(programs):
    each = programs(made_up.DreamLoop)
    request = call(ASKED, seed=5)
    records = cross(each["encoder"].encode(request))
    left = each["denoiser"].denoise(request, records)
    left.start()
    checkpoint = checkpoint_at(left, 2)
    again = resumed(each["denoiser"], request, checkpoint)
    latents = checkpoint.payload["checkpoint"]["snapshot"]["block"]["latents"]
    assert torch.equal(again.preview()["values"]["latents"], latents)


def test_there_is_nothing_to_see_before_a_step_or_where_it_cannot_be_shown(programs, caplog):
    each = programs(made_up.DreamLoop)
    request = call(ASKED)
    for denoising in (
        each["denoiser"].denoise(request, each["encoder"].encode(request)),
        each["monolithic"].generate(request),
    ):
        with pytest.raises(NoPreview):
            denoising.preview()
        denoising.start()
        with pytest.raises(NoPreview, match="not taken a step"):
            denoising.preview()
        denoising.cancel()
    assert not caplog.records


def test_a_film_made_in_pieces_has_none_that_fits_and_goes_on(programs):
    """Its shadow adds what was made of each piece: another picture, but no other result."""
    each = programs(made_up_loops.Pieces)
    request = call(ASKED, seed=5)
    records = each["encoder"].encode(request)
    expected = drive(each["denoiser"].denoise(request, records))
    result, previews = watched(each["denoiser"].denoise(request, records))
    assert len(previews) == 5
    assert torch.equal(result["values"]["latents"], expected["values"]["latents"])
