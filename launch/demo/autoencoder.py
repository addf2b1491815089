"""The demo model's autoencoder: 128 x 128 pixels to 16 x 16 latents of 8 channels, and back.

An `AutoencoderTiny` (https://github.com/madebyollin/taesd) holds no normalisation layer, so the
absolute colour of a background survives. Latents of a batch are pulled towards mean 0 and
variance 1, and noise is added to them, so that small errors of the denoiser do no harm.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from launch.demo.drawing import SIZE, draw, pixels
from launch.demo.muon import Muon
from launch.demo.progress import Progress
from launch.demo.scenes import Lottery, Scene

CHANNELS = 24
LATENT_CHANNELS = 8
Loss = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""(Pictures, noise) → the loss to train by, and the mean absolute error."""


@dataclass(frozen=True, slots=True)
class AutoencoderRecipe:
    """How long and on what the autoencoder trains: pieces of `crop` x `crop` pixels."""

    steps: int = 2000
    batch: int = 16
    crop: int = 64
    kernel_rate: float = 0.02
    other_rate: float = 2e-3
    warmup: int = 30
    latent_noise: float = 0.2
    seed: int = 1

    def rate(self, step: int) -> float:
        """Share of the full rates: linear warm-up, then a cosine down to 2 %."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return min(1.0, (step + 1) / self.warmup) * (0.98 * cosine + 0.02)


def build_autoencoder() -> AutoencoderTiny:
    """A fresh autoencoder of 0.2 M parameters; no blocks at full size keep it quick."""
    return AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 4,
        decoder_block_out_channels=(CHANNELS,) * 4,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 3, 2, 0),
        latent_channels=LATENT_CHANNELS,
    )


def batch_of(scenes: list[Scene], rng: random.Random, spread: float = 1.0) -> Tensor:
    """Drawn scenes as `[batch, 3, height, width]` in -1 to 1, channels last in memory."""
    drawn = torch.from_numpy(np.stack([pixels(draw(scene, rng, spread)) for scene in scenes]))
    return drawn.permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def _difference(restored: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """How far restored pictures are off (values, edges, squares), and in mean value alone."""
    error = (restored - pictures).abs().mean()
    pairs = zip(_edges(restored), _edges(pictures), strict=True)
    edges = torch.stack([(ours - true).abs().mean() for ours, true in pairs]).sum()
    return error + 0.5 * edges + (restored - pictures).pow(2).mean(), error


def _noisy(latents: Tensor, noise: float) -> Tensor:
    """Every picture's latents with noise of another strength, up to `noise`."""
    return latents + noise * torch.rand(len(latents), 1, 1, 1) * torch.randn_like(latents)


def _loss_of_both(vae: AutoencoderTiny, pictures: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """The loss for encoder and decoder: the difference, and latents off mean 0, variance 1."""
    latents = vae.encoder(pictures)
    loss, error = _difference(vae.decoder(_noisy(latents, noise)), pictures)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    moments = mean.pow(2).mean() + (deviation - 1).pow(2).mean()
    return loss + 0.05 * moments, error


def _loss_of_decoder(vae: AutoencoderTiny, pictures: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """The loss for the decoder alone: the difference, where contrast is low counted for more.

    Otherwise the thin points of a small star on gray are not worth drawing.
    """
    with torch.no_grad():
        latents = vae.encoder(pictures)
    contrast = pictures.std((1, 2, 3), keepdim=True).clamp(min=0.1) / 0.3
    restored = vae.decoder(_noisy(latents, noise))
    loss, _ = _difference(restored / contrast, pictures / contrast)
    return loss, (restored - pictures).abs().mean()


def _crops(pictures: Tensor, side: int, rng: random.Random) -> Tensor:
    """One square piece of each picture: for convolutions as good as the whole, and cheaper."""
    corners = [(rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)) for _ in pictures]
    pieces = [
        picture[:, y : y + side, x : x + side]
        for picture, (y, x) in zip(pictures, corners, strict=True)
    ]
    return torch.stack(pieces).contiguous(memory_format=torch.channels_last)


def _optimizers(model: nn.Module, recipe: AutoencoderRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the inner convolutions, Adam for the ends and the biases."""
    inner = [p for p in model.parameters() if p.shape[:2] == (CHANNELS, CHANNELS)]
    others = [p for p in model.parameters() if p.shape[:2] != (CHANNELS, CHANNELS)]
    adam = torch.optim.Adam(others, lr=recipe.other_rate, betas=(0.9, 0.97))
    return [Muon(inner, lr=recipe.kernel_rate), adam]


def _train(
    model: nn.Module,
    loss_of: Loss,
    recipe: AutoencoderRecipe,
    rng: random.Random,
    progress: Progress,
) -> None:
    """Trains the parameters of `model` by `loss_of(pictures, noise)` on pieces of drawings."""
    lottery, optimizers = Lottery(held_out=False), _optimizers(model, recipe)
    full = (recipe.kernel_rate, recipe.other_rate)
    for step in range(recipe.steps):
        drawn = batch_of([lottery.draw(rng) for _ in range(recipe.batch)], rng)
        loss, error = loss_of(_crops(drawn, recipe.crop, rng), recipe.latent_noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, full, strict=True):
            optimizer.param_groups[0]["lr"] = rate * recipe.rate(step)
            optimizer.step()
            optimizer.zero_grad()
        progress.note("autoencoder", step + 1, recipe.steps, error.item())


def train_autoencoder(recipe: AutoencoderRecipe, progress: Progress) -> AutoencoderTiny:
    """A trained autoencoder whose `scaling_factor` makes latents of unit variance."""
    torch.manual_seed(recipe.seed)
    vae, rng = build_autoencoder().to(memory_format=torch.channels_last), random.Random(recipe.seed)
    _train(vae, partial(_loss_of_both, vae), recipe, rng, progress)
    lottery = Lottery(held_out=False)
    return _scaled(vae.eval(), [lottery.draw(rng) for _ in range(256)], rng)


def refine_decoder(vae: AutoencoderTiny, recipe: AutoencoderRecipe, progress: Progress) -> None:
    """Trains the decoder on; the encoder, and so the latents, stay as they are."""
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    _train(vae.decoder, partial(_loss_of_decoder, vae), recipe, rng, progress)


@torch.no_grad()
def encode(
    vae: AutoencoderTiny, scenes: list[Scene], rng: random.Random, spread: float = 1.0
) -> Tensor:
    """Drawn scenes as the latents the denoiser learns, `[batch, 8, 16, 16]`, unit variance."""
    latents: Tensor = vae.encode(batch_of(scenes, rng, spread)).latents
    return latents * vae.config.scaling_factor


def _scaled(vae: AutoencoderTiny, scenes: list[Scene], rng: random.Random) -> AutoencoderTiny:
    deviation = encode(vae, scenes, rng).std().item()
    vae.register_to_config(scaling_factor=round(1 / deviation, 4))
    return vae
