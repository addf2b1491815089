"""The promise: through three programs and the wire, the pixels of the plain pipeline."""

import pytest
import torch

from roles.split.loading import load
from roles.split.program import Program
from tests.conformance.sample import SAMPLE
from tests.support.pipelines import PARAMS, UNSPLITTABLE, build
from tests.support.splitting import arrays, call, cross, drive, plain, same, through_roles
from transfer.payload import pack

CORE = ["flux", "qwenimage", "sd15", "sdxl", "sd3", "wan", "ltx", "zimage"]
SAMPLED = {
    "animatediff": "AnimateDiffPipeline/text-to-video",
    "flux": "FluxPipeline/text-to-image",
    "flux2_klein": "Flux2KleinPipeline/text-to-image",
    "lcm": "LatentConsistencyModelPipeline/text-to-image",
    "ltx2": "LTX2Pipeline/text-to-video-with-sound",
    "pixart": "PixArtAlphaPipeline/text-to-image",
    "qwenimage": "QwenImagePipeline/text-to-image",
    "sd15": "StableDiffusionPipeline/text-to-image",
    "sdxl": "StableDiffusionXLPipeline/text-to-image",
    "stable_audio": "StableAudioPipeline/text-to-sound",
    "wan22": "WanPipeline/text-to-video,-two-transformers",
    "zimage": "ZImagePipeline/text-to-image",
}
"""Those that tests/conformance compares in float32, with every run of the tests."""
OTHERS = sorted(PARAMS.keys() - UNSPLITTABLE - SAMPLED.keys())


def three(program, name: str, dtype: str) -> list[Program]:
    return [program(name, role, dtype=dtype) for role in ("encoder", "denoiser", "decoder")]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in OTHERS] + [(name, "bfloat16") for name in CORE],
)
def test_three_roles_give_the_plain_pixels(name, dtype, folder, program):
    samples = through_roles(*three(program, name, dtype), call(PARAMS[name], seed=11))
    assert same(arrays(samples), plain(folder(name), PARAMS[name], 11, dtype))


def test_the_sample_has_the_others() -> None:
    assert set(SAMPLED.values()) <= SAMPLE.keys()


@pytest.mark.parametrize("name", ["wan", "zimage"])
def test_auto_is_the_dtype_of_a_plain_from_pretrained(name, tmp_path, program):
    stored = build(name, tmp_path / name, torch.bfloat16)
    programs = [load(stored, [role]) for role in ("encoder", "denoiser", "decoder")]
    samples = through_roles(*programs, call(PARAMS[name], seed=2))
    assert same(arrays(samples), plain(stored, PARAMS[name], 2))


def test_half_precision_decodes_upcast_and_stays_as_it_was(folder, program):
    programs = three(program, "sdxl", "float16")
    for seed in (1, 2):
        samples = through_roles(*programs, call(PARAMS["sdxl"], seed))
        assert same(arrays(samples), plain(folder("sdxl"), PARAMS["sdxl"], seed, "float16"))


@pytest.mark.parametrize("roles", [("encoder", "decoder"), ("encoder", "denoiser", "decoder")])
def test_roles_can_share_a_program(roles, folder, program):
    shared = program("sd15", *roles)
    denoiser = shared if "denoiser" in roles else program("sd15", "denoiser")
    for seed in (3, 4):
        samples = through_roles(shared, denoiser, shared, call(PARAMS["sd15"], seed))
        assert same(arrays(samples), plain(folder("sd15"), PARAMS["sd15"], seed))


@pytest.mark.parametrize("name", ["zimage", "pixart", "ddim"])
def test_monolithic_gives_the_plain_pixels(name, folder, program):
    denoising = program(name, "monolithic").generate(call(PARAMS[name], seed=5))
    assert same(arrays(drive(denoising)), plain(folder(name), PARAMS[name], 5))
    assert denoising.step == denoising.steps == PARAMS[name]["num_inference_steps"]


def test_a_seed_chooses_the_pixels(program):
    programs = three(program, "zimage", "float32")
    one, again, other = (
        arrays(through_roles(*programs, call(PARAMS["zimage"], seed))) for seed in (1, 1, 2)
    )
    assert same(one, again)
    assert not same(one, other)


def test_decoded_conditioning_weighs_nothing_on_the_wire(program):
    encoder, denoiser, _ = three(program, "flux", "float32")
    request = call(PARAMS["flux"])
    records = encoder.encode(request)
    latents = drive(denoiser.denoise(request, cross(records)))
    # generator state and latents; the embeddings' shapes only
    assert pack(latents).nbytes < 16_000 + 4 * 4 * 4 * 4
