"""Tiny random decoders that decode in tiles, and what ranks of `tests.support.ranks` do with
them."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import diffusers
import torch

from roles.rank.world import RanksApart, World
from roles.split.decoding.sparing import Sparing
from roles.split.parallel.tiles import divide_tiles
from roles.split.program import ModelError
from tests.support import model_parts

MESH = {"tile_latent_min_size": 4, "tile_sample_min_size": 32}
SPATIAL = {
    "tile_sample_min_height": 32,
    "tile_sample_min_width": 32,
    "tile_sample_stride_height": 24,
    "tile_sample_stride_width": 24,
}
LARGE = {
    "tile_sample_min_height": 64,
    "tile_sample_min_width": 64,
    "tile_sample_stride_height": 32,
    "tile_sample_stride_width": 32,
    "timestep": 0.5,
}
CAUSAL = {"dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [False, True, True]}


def _ltx(noise: bool) -> Any:
    return diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(noise, False, False, False, False),
        timestep_conditioning=True,
    )


def _cogvideox() -> Any:
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=4
    )


def _hunyuan() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )


def _mochi() -> Any:
    return diffusers.AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        latent_channels=4,
        layers_per_block=(1, 1, 1, 1, 1),
        latents_mean=(0.0,) * 4,
        latents_std=(1.0,) * 4,
    )


def _magvit() -> Any:
    return diffusers.AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=[8, 8, 8, 8], layers_per_block=1, norm_num_groups=4
    )


DECODERS: dict[str, tuple[Callable[[], Any], tuple[int, ...], dict[str, Any]]] = {
    "kl": (model_parts.vae, (2, 4, 9, 10), MESH),
    "wan": (
        lambda: diffusers.AutoencoderKLWan(base_dim=4, z_dim=4, **CAUSAL),
        (1, 4, 3, 8, 9),
        SPATIAL,
    ),
    "qwenimage": (
        lambda: diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=4, **CAUSAL),
        (1, 4, 1, 7, 9),
        SPATIAL,
    ),
    "ltx": (partial(_ltx, False), (1, 8, 2, 3, 4), LARGE),
    "ltx with noise": (partial(_ltx, True), (1, 8, 2, 3, 4), LARGE),
    "hunyuan": (
        _hunyuan,
        (1, 4, 6, 6, 7),
        {**SPATIAL, "tile_sample_min_num_frames": 8, "tile_sample_stride_num_frames": 4},
    ),
    "cogvideox": (
        _cogvideox,
        (1, 4, 4, 6, 7),
        {
            "tile_sample_min_height": 32,
            "tile_sample_min_width": 32,
            "tile_latent_min_height": 4,
            "tile_latent_min_width": 4,
        },
    ),
    "mochi": (_mochi, (1, 4, 3, 6, 6), SPATIAL),
    "magvit": (
        _magvit,
        (1, 4, 3, 6, 6),
        {"tile_sample_min_height": 32, "tile_sample_min_width": 32},
    ),
    "temporal": (
        lambda: diffusers.AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2
        ),
        (1, 4, 3, 3),
        {},
    ),
}


class Played:
    """One decoder: what it decodes in one rank, and in several."""

    def __init__(self, name: str, other: tuple[int, ...] | None = None) -> None:
        make, shape, settings = DECODERS[name]
        torch.manual_seed(0)
        self.vae = make().eval()
        self.latents = torch.randn(other or shape)
        self.named = (
            {"temb": torch.tensor([settings["timestep"]])} if "timestep" in settings else {}
        )
        for key, value in settings.items():
            if key != "timestep":
                setattr(self.vae, key, value)

    def whole(self, tiled: bool = True) -> torch.Tensor:
        """What one rank gives."""
        torch.manual_seed(7)
        if tiled:
            self.vae.enable_tiling()
        made: torch.Tensor = self.vae.decode(self.latents, **self.named).sample
        self.vae.disable_tiling()
        return made

    def divided(self, world: World, exact: bool = False) -> tuple[torch.Tensor, Sparing]:
        torch.manual_seed(7)
        sparing = Sparing("r", exact, divide_tiles({"vae": self.vae}, world))
        decode = partial(self.vae.decode, self.latents, **self.named)
        made = sparing.decode("vae", self.vae, decode, ((self.latents,), self.named))
        return made.sample, sparing

    @contextmanager
    def scripted(self, error: BaseException | None, most: int = 0) -> Iterator[None]:
        """The inner decoder raises this for more than `most` samples."""
        forward = self.vae.decoder.forward

        def compute(tile: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if error is not None and len(tile) > most:
                raise error
            return forward(tile, *args, **kwargs)

        self.vae.decoder.forward = compute
        try:
            yield
        finally:
            del self.vae.decoder.forward

    @contextmanager
    def computing(self) -> Iterator[list[int]]:
        """How many calls of the inner decoder were computed here."""
        calls: list[int] = []
        forward = self.vae.decoder.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(args[0].numel())
            return forward(*args, **kwargs)

        self.vae.decoder.forward = counted
        try:
            yield calls
        finally:
            del self.vae.decoder.forward


SHARED = ("kl", "wan", "qwenimage", "ltx", "hunyuan", "cogvideox", "mochi")
WHOLE = ("ltx with noise", "magvit")  # their tiles depend on others


def decode(world: World, name: str, exact: bool = False, times: int = 2) -> dict[str, Any]:
    """Whether several ranks decode bit for bit what one does, and what each of them computed."""
    played = Played(name)
    with played.computing() as whole:
        known = played.whole(tiled=not exact)
        random = torch.rand(1)
    same, way = [], []
    with played.computing() as mine:
        for _ in range(times):
            mine.clear()
            made, sparing = played.divided(world, exact)
            same.append(torch.equal(made, known) and torch.equal(torch.rand(1), random))
            way.append(sparing.way)
    tiled = not torch.equal(known, played.whole(tiled=False))
    return {"same": same, "way": way, "whole": whole, "mine": list(mine), "tiled": tiled}


def refused(world: World, name: str) -> str:
    try:
        divide_tiles({"vae": DECODERS[name][0]()}, world)
    except ModelError as error:
        return str(error)
    return "divided"


def fails(world: World, name: str) -> list[str]:
    """Rank 1 fails once, amid its tiles."""
    played = Played(name)
    known = played.whole()
    told = []
    for attempt in range(2):
        with played.scripted(ValueError("scripted") if (world.rank, attempt) == (1, 0) else None):
            told.append(_told(played, world, known))
    return told


def short(world: World, name: str) -> list[str | None]:
    """Rank 1 has room for the tiles of one sample."""
    played = Played(name)
    played.vae.enable_slicing()  # which rounds otherwise than a batch
    known = played.whole()
    played.vae.disable_slicing()
    error = RuntimeError("scripted: out of memory") if world.rank == 1 else None
    with played.scripted(error, most=1):
        made, sparing = played.divided(world)
    return ["same" if torch.equal(made, known) else "other", sparing.way]


def dies(world: World, name: str) -> str:
    """Rank 1 dies amid its tiles."""
    played = Played(name)
    with played.scripted(SystemExit() if world.rank == 1 else None):
        try:
            played.divided(world)
        except RanksApart as error:
            return str(error)
        except SystemExit:
            os.kill(os.getpid(), signal.SIGKILL)
    return "fine"


def _told(played: Played, world: World, known: torch.Tensor) -> str:
    try:
        made, _ = played.divided(world)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "same" if torch.equal(made, known) else "other"
