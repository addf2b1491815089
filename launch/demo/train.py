"""Trains the demo model from nothing: `python -m launch.demo.train --out DIR`.

Four stages, each kept in the work folder and not done again: the autoencoder, its decoder alone,
the latents of the drawn pictures, then text encoder and transformer together (saved every so many
steps, so that a run that was stopped goes on). Seeds and step counts are fixed, the clock decides
nothing.
"""

import argparse
import copy
import json
import random
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, CogView4Pipeline
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from launch.demo.autoencoder import AutoencoderRecipe, encode, refine_decoder, train_autoencoder
from launch.demo.denoiser import DenoiserRecipe, DenoiserTraining, build_scheduler, token_ids
from launch.demo.progress import Progress
from launch.demo.scenes import Lottery, caption
from launch.demo.text import build_tokenizer

AUTOENCODER = AutoencoderRecipe()
DECODER = AutoencoderRecipe(steps=2500, latent_noise=0.15, seed=3)
CHUNK = 64
"""Pictures encoded at once."""


def autoencoder_stage(work: Path) -> AutoencoderTiny:
    """The trained autoencoder, from the work folder if it is there."""
    folder = work / "autoencoder"
    if not folder.exists():
        train_autoencoder(AUTOENCODER, Progress()).save_pretrained(folder)
    return _load(folder)


def decoder_stage(work: Path) -> AutoencoderTiny:
    """The autoencoder with its decoder trained on, from the work folder if it is there."""
    folder = work / "decoder"
    if not folder.exists():
        vae = autoencoder_stage(work)
        refine_decoder(vae, DECODER, Progress())
        vae.save_pretrained(folder)
    return _load(folder)


def _load(folder: Path) -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(folder).to(memory_format=torch.channels_last)


def latents_stage(
    work: Path, recipe: DenoiserRecipe, phase: int, tokenizer: PreTrainedTokenizerFast
) -> tuple[Tensor, Tensor]:
    """Latents `[pictures, 8, 16, 16]` of a phase's pictures, token numbers of their captions."""
    file = work / f"latents-{phase}.pt"
    if not file.exists():
        torch.save(_draw_latents(decoder_stage(work), recipe, phase), file)
    saved = torch.load(file)
    return saved["latents"], token_ids(tokenizer, saved["captions"])


def _draw_latents(vae: AutoencoderTiny, recipe: DenoiserRecipe, phase: int) -> dict[str, object]:
    rng = random.Random(recipe.seed + phase)
    lottery, spread = Lottery(held_out=False, weights=recipe.weights), recipe.spreads[phase]
    chunks, captions = [], []
    for start in range(0, recipe.pictures, CHUNK):
        scenes = [lottery.draw(rng) for _ in range(min(CHUNK, recipe.pictures - start))]
        captions += [caption(scene, rng) for scene in scenes]
        chunks.append(encode(vae, scenes, rng, spread).half())
        if start % (64 * CHUNK) == 0:
            print(f"latents {phase} {start}/{recipe.pictures}", flush=True)
    return {"latents": torch.cat(chunks), "captions": captions}


def denoiser_stage(work: Path, recipe: DenoiserRecipe, save_every: int, out: Path) -> None:
    """Trains text encoder and transformer, resuming from the work folder; writes the model."""
    tokenizer, vae = build_tokenizer(), decoder_stage(work)
    training, file, progress = DenoiserTraining(recipe, tokenizer), work / "denoiser.pt", Progress()
    if file.exists():
        training.restore(torch.load(file))
    phases = [latents_stage(work, recipe, phase, tokenizer) for phase in (0, 1)]
    while training.step < recipe.steps:
        loss = training.train_step(*phases[training.step >= recipe.calm])
        progress.note("denoiser", training.step, recipe.steps, loss)
        if training.step % save_every == 0:
            _save(training, file)
            assemble(training, vae, tokenizer, work / "latest")
    assemble(training, vae, tokenizer, out)


def _save(training: DenoiserTraining, file: Path) -> None:
    partial = file.with_suffix(".partial")
    torch.save(training.state(), partial)
    partial.replace(file)


def assemble(
    training: DenoiserTraining,
    vae: AutoencoderTiny,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> None:
    """Puts the pipeline together from the running averages and saves it.

    Transformer and autoencoder are stored in float16. The small text encoder stays in float32,
    because transformers loads what it finds and diffusers loads float32: stored alike, a plain
    `from_pretrained` would give two dtypes that do not fit together.
    """
    text_encoder, transformer = training.averaged()
    stored = copy.deepcopy(vae).half()
    stored.register_to_config(_name_or_path="")  # where it was loaded from is nobody's business
    pipeline = CogView4Pipeline(
        tokenizer, text_encoder, stored, transformer.half(), build_scheduler()
    )
    pipeline.save_pretrained(folder)
    _drop_stray_key(folder / "vae" / "config.json")


def _drop_stray_key(config: Path) -> None:
    """`AutoencoderTiny` saves a key that it then warns of whenever it is loaded."""
    fields = json.loads(config.read_text())
    del fields["block_out_channels"]
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--work", type=Path, help="folder for the stages (default: OUT.work)")
    parser.add_argument("--threads", type=int, default=1, help="more are quicker, and other sums")
    parser.add_argument("--save-every", type=int, default=250, help="steps between saved states")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or arguments.out.with_name(arguments.out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    denoiser_stage(work, DenoiserRecipe(), arguments.save_every, arguments.out)


if __name__ == "__main__":
    main()
