"""What is told of a model without memory is what its roles really hand on."""

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

from benchmarks.hops.family import Family
from benchmarks.hops.figures import measure, nbytes
from benchmarks.hops.hollow import model
from roles.split.loading import load
from tests.support.image_pipelines import flux
from tests.support.pipelines import build
from tests.support.splitting import call, drive
from transfer.payload import pack

ASKED = {"prompt": "a red circle", "num_inference_steps": 2}
SIZE = {"width": 64, "height": 32, "max_sequence_length": 32}


def test_what_crosses_is_what_really_crosses(tmp_path):
    tiny = Family("tiny", "FluxPipeline", lambda: flux().components, ASKED | SIZE, "64x32", "")
    found = measure(tiny)
    asked = call(ASKED | SIZE)
    folder = build("flux", tmp_path / "flux")
    records = load(folder, ("encoder",)).encode(asked)
    result = drive(load(folder, ("denoiser",)).denoise(asked, records))
    told = [each.nbytes for each in found.crossings]
    assert told == [pack(records).nbytes, pack(result).nbytes]
    parts = flux().components
    assert found.weights == {
        "encoder": nbytes(parts["text_encoder"]) + nbytes(parts["text_encoder_2"]),
        "denoiser": nbytes(parts["transformer"]),
        "decoder": nbytes(parts["vae"]),
    }


def test_a_model_has_its_parameters_and_no_memory():
    made = model(AutoencoderKL, latent_channels=16)
    plain = AutoencoderKL(latent_channels=16)
    assert sum(each.numel() for each in made.parameters()) == sum(
        each.numel() for each in plain.parameters()
    )
    assert {(each.device.type, each.dtype) for each in made.parameters()} == {
        ("meta", torch.bfloat16)
    }


def test_pipelines_can_read_the_statistics_of_its_latents():
    small = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
    made = model(AutoencoderKLFlux2, latent_channels=4, **small)
    assert made.bn.running_var.tolist() == [1.0] * 16
