"""Decoding when memory is short."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from roles.split.decoding.sparing import NoRoom, Sparing
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, drive, plain, same
from transfer.messages import Inputs


class Decoder:
    """Has no memory until one of `enough` is on. `states`: the switches at each try."""

    def __init__(self, *enough: str) -> None:
        self.use_slicing = self.use_tiling = False
        self.enough = enough
        self.states: list[tuple[bool, bool]] = []

    def enable_slicing(self) -> None:
        self.use_slicing = True

    def disable_slicing(self) -> None:
        self.use_slicing = False

    def enable_tiling(self) -> None:
        self.use_tiling = True

    def disable_tiling(self) -> None:
        self.use_tiling = False

    def decode(self) -> str:
        self.states.append((self.use_slicing, self.use_tiling))
        if not any(getattr(self, f"use_{each}") for each in self.enough):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return "made"


def tried(decoder: Any, exact: bool = False) -> tuple[Any, Sparing]:
    sparing = Sparing("r", exact)
    return sparing.decode("vae", decoder, decoder.decode), sparing


def test_nothing_is_switched_while_there_is_memory() -> None:
    decoder = Decoder()
    decoder.decode = lambda: "at once"  # type: ignore[method-assign]
    made, sparing = tried(decoder)
    assert (made, sparing.way, decoder.states) == ("at once", None, [])


@pytest.mark.parametrize(
    ("enough", "way", "states"),
    [
        ("slicing", "slices", [(False, False), (True, False)]),
        ("tiling", "tiles", [(False, False), (True, False), (True, True)]),
    ],
)
def test_slices_first_then_tiles(
    enough: str, way: str, states: list[tuple[bool, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    decoder = Decoder(enough)
    with caplog.at_level(logging.WARNING):
        made, sparing = tried(decoder)
    assert (made, sparing.way, decoder.states) == ("made", way, states)
    assert (decoder.use_slicing, decoder.use_tiling) == (False, False)
    assert f"request r was decoded with vae in {way}" in caplog.text


def test_an_exact_request_is_never_decoded_in_tiles() -> None:
    decoder = Decoder("tiling")
    with pytest.raises(NoRoom, match=r"not enough memory.*without exact"):
        tried(decoder, exact=True)
    assert decoder.states == [(False, False)]


def test_when_nothing_helps_it_says_so() -> None:
    decoder = Decoder()
    with pytest.raises(NoRoom, match=r"not even in tiles \(CUDA out of memory"):
        tried(decoder)
    assert (decoder.use_slicing, decoder.use_tiling) == (False, False)


def test_what_is_on_already_stays_on() -> None:
    decoder = Decoder("tiling")
    decoder.use_slicing = True
    tried(decoder)
    assert decoder.states == [(True, False), (True, True)]
    assert (decoder.use_slicing, decoder.use_tiling) == (True, False)


def test_other_errors_are_no_reason_to_try_again() -> None:
    decoder = Decoder()

    def fails() -> None:
        decoder.states.append((False, False))
        raise ValueError("another one")

    with pytest.raises(ValueError, match="another one"):
        Sparing("r", False).decode("vae", decoder, fails)
    assert len(decoder.states) == 1


# ---------------------------------------------------------------- real decoders


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Lets a program's VAE have no memory to decode more than four latents at once."""

    def make(program: Any) -> Any:
        vae = program.pipeline.vae
        monkeypatch.setattr(vae, "tile_latent_min_size", 2, raising=False)
        monkeypatch.setattr(vae, "tile_sample_min_size", 16, raising=False)
        monkeypatch.setattr(vae, "tile_overlap_factor", 0)
        decode = vae.decoder.forward

        def forward(sample: Any, *args: Any, **kwargs: Any) -> Any:
            if sample.shape[-1] * sample.shape[-2] > 4:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return decode(sample, *args, **kwargs)

        monkeypatch.setattr(vae.decoder, "forward", forward)
        return vae

    return make


def test_a_real_decoder_falls_back_to_tiles_and_back(folder, program, short, monkeypatch) -> None:
    encoder, denoiser, decoder = (program("sd15", r) for r in ("encoder", "denoiser", "decoder"))
    request = call(PARAMS["sd15"], seed=3)
    latents = drive(denoiser.denoise(request, encoder.encode(request)))
    reference = plain(folder("sd15"), PARAMS["sd15"], 3)
    vae = short(decoder)
    (tiled,) = decoder.decode(request, latents)
    assert tiled.decoded_in == "tiles"
    assert np.asarray(tiled.pixels).shape == reference[0].shape
    assert (vae.use_slicing, vae.use_tiling) == (False, False)
    exact = type(request)("r", Inputs(request.inputs.params, 3, exact=True))
    with pytest.raises(NoRoom, match="without exact"):
        decoder.decode(exact, latents)
    monkeypatch.undo()
    (whole,) = decoder.decode(request, latents)
    assert whole.decoded_in is None
    assert same(arrays([whole]), reference)


def test_a_whole_pipeline_does_too(folder, program, short, monkeypatch) -> None:
    whole = program("sd15", "monolithic")
    short(whole)
    (made,) = drive(whole.generate(call(PARAMS["sd15"], seed=3)))
    assert made.decoded_in == "tiles"
    monkeypatch.undo()
    (made,) = drive(whole.generate(call(PARAMS["sd15"], seed=3)))
    assert made.decoded_in is None
    assert same(arrays([made]), plain(folder("sd15"), PARAMS["sd15"], 3))
