"""Training in miniature: repeatable, resumable, and it learns."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from torch.nn import Parameter

from launch.demo import train
from launch.demo.autoencoder import LATENT_CHANNELS, AutoencoderRecipe
from launch.demo.denoiser import TEXT_MULTIPLE, DenoiserRecipe, DenoiserTraining, token_ids
from launch.demo.muon import Muon, orthogonalised
from launch.demo.scenes import KINDS
from launch.demo.text import build_tokenizer


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    """Ranks that ran in this process before may have left them off."""
    with torch.enable_grad():
        yield


TINY = DenoiserRecipe(steps=2, decay=1, calm=1, guided=1, batch=2, pictures=4)


def trained(steps: int, state: dict[str, object] | None = None) -> DenoiserTraining:
    """A training at step 0 or at `state`, taken `steps` further on made-up latents."""
    tokenizer = build_tokenizer()
    training = DenoiserTraining(TINY, tokenizer)
    if state:
        training.restore(state)
    latents = torch.randn(4, LATENT_CHANNELS, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = token_ids(tokenizer, ["a red star", "two blue hearts", "a green circle", ""])
    for _ in range(steps):
        training.train_step(latents, ids)
    return training


def test_resumed_training_ends_where_uninterrupted_training_does(tmp_path: Path) -> None:
    torch.save(trained(1).state(), tmp_path / "state.pt")
    resumed = trained(1, torch.load(tmp_path / "state.pt"))
    straight = trained(2)
    assert resumed.step == straight.step == 2
    for ours, theirs in zip(resumed.averages, straight.averages, strict=True):
        assert torch.equal(ours, theirs)


def test_training_text_is_padded_as_the_pipeline_pads_it() -> None:
    tokenizer = build_tokenizer()
    prompts = [next(every()).prompt for every in KINDS.values()] + [""]
    for prompt, ours in zip(prompts, token_ids(tokenizer, prompts), strict=True):
        theirs = tokenizer([prompt], padding="longest", return_tensors="pt").input_ids[0]
        pads = torch.full((TEXT_MULTIPLE - len(theirs),), tokenizer.pad_token_id)
        assert torch.equal(ours, torch.cat([pads, theirs]))


def test_muon_steps_are_orthogonal_and_go_downhill() -> None:
    steps = orthogonalised(torch.randn(3, 8, 24))
    values = torch.linalg.svdvals(steps)
    assert values.min() > 0.4
    assert values.max() < 1.4
    matrix = Parameter(torch.ones(4, 6))
    optimizer = Muon([matrix], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (matrix**2).sum().backward()
        optimizer.step()
    assert (matrix**2).sum() < 24


def test_the_whole_script_writes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "AUTOENCODER", AutoencoderRecipe(steps=1, batch=1))
    monkeypatch.setattr(train, "DECODER", AutoencoderRecipe(steps=1, batch=1))
    monkeypatch.setattr(train, "DenoiserRecipe", lambda: TINY)
    threads = torch.get_num_threads()
    out = tmp_path / "model"
    monkeypatch.setattr("sys.argv", ["train", "--out", str(out)])
    try:
        train.main()
    finally:
        torch.set_num_threads(threads)
    assert "denoiser 2/2" in capsys.readouterr().out
    pipeline = DiffusionPipeline.from_pretrained(out)
    assert pipeline("a red star", num_inference_steps=1).images[0].size == (128, 128)
