"""Pipelines whose encoders write something first, split in roles: the plain pipeline's pixels."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from roles.split.classic import ClassicProgram
from roles.split.encoding.generation import Generation
from roles.split.encoding.generators import asks
from roles.split.loading import load
from roles.split.program import Cancelled
from tests.conformance import modular
from tests.conformance.case import Case
from tests.conformance.plain import arrays as made
from tests.conformance.subject import call_of
from tests.conformance.suite import cases
from tests.support.splitting import arrays, call, cross, drive, same
from tests.support.writers import ERNIE, FLUX2, WRITTEN, ending, ernie_image, flux2

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ernie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        folder = tmp_path_factory.mktemp("models") / "ernie"
        ernie_image().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def layers() -> Case:
    """A modular pipeline that tells what it sees on a picture, if it is not told."""
    name = "QwenImageLayeredModularPipeline/image-to-layers"
    return next(case for case in cases() if case.name == name)


@pytest.fixture(scope="module")
def blocks(layers: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        folder = tmp_path_factory.mktemp("models") / "blocks"
        pipeline = layers.build()
        ending(pipeline.text_encoder)
        modular.save(pipeline, folder)
    return folder


def silent(layers: Case) -> dict[str, Any]:
    return {**layers.arguments(), "prompt": " "}


def plain(pipeline: Any, params: dict[str, Any], seed: int) -> Any:
    """What the pipeline gives a user who sets this seed, for what has no generator too."""
    pipeline.set_progress_bar_config(disable=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = torch.Generator("cpu").manual_seed(seed)
        return pipeline(**params, generator=generator, output_type="pil")


def run(*generations: Generation) -> list[Any]:
    """Each its next token, in turns, to the end of all."""
    for each in generations:
        each.start()
        each.read()
    while any(not each.done for each in generations):
        for each in generations:
            if not each.done:
                each.resume([call.run() for call in each.pending])
    return [each.result() for each in generations]


def pixels(output: Any) -> Any:
    return [np.asarray(image) for image in output.images]


def test_a_prompt_enhancer_in_three_roles(ernie: Path) -> None:
    encoder, denoiser, decoder = (load(ernie, [r]) for r in ("encoder", "denoiser", "decoder"))
    assert [each.info.generates for each in (encoder, denoiser, decoder)] == [["pe"]] * 3
    asked = [call(ERNIE, 1, "a"), call({**ERNIE, "prompt": "two blue stars, far away"}, 2, "b")]
    whole = DiffusionPipeline.from_pretrained(ernie)
    expected = [plain(whole, each.inputs.params, each.inputs.seed) for each in asked]
    assert expected[0].revised_prompts != expected[1].revised_prompts
    generations = [encoder.encoding(each) for each in asked]
    for one, payload, output in zip(asked, run(*generations), expected, strict=True):
        latents = cross(drive(denoiser.denoise(one, cross(payload))))
        assert same(arrays(decoder.decode(one, latents)), pixels(output))
    assert {(each.step, each.steps) for each in generations} == {(WRITTEN, WRITTEN)}


def test_a_caption_among_blocks(layers: Case, blocks: Path) -> None:
    encoder, denoiser, decoder = (load(blocks, [r]) for r in ("encoder", "denoiser", "decoder"))
    assert [p.info.generates for p in (encoder, denoiser, decoder)] == [["text_encoder"]] * 3
    kind = diffusers.QwenImageLayeredModularPipeline
    asked = [call_of(kind, silent(layers), seed) for seed in (1, 2)]
    generations = [encoder.encoding(each) for each in asked]
    for one, payload in zip(asked, run(*generations), strict=True):
        latents = cross(drive(denoiser.denoise(one, cross(payload))))
        expected = modular.plain(blocks, silent(layers), "float32", one.inputs.seed)
        assert same(arrays(decoder.decode(one, latents)), made(expected))
    assert all(each.step > 1 for each in generations)
    whole = load(blocks, ["monolithic"])
    assert same(arrays(drive(whole.generate(asked[1]))), made(expected))


def test_a_caption_among_blocks_ends_within_a_word(layers: Case, blocks: Path) -> None:
    kind = diffusers.QwenImageLayeredModularPipeline
    generation = load(blocks, ["encoder"]).encoding(call_of(kind, silent(layers), 1))
    generation.start()
    generation.read()
    assert not generation.done
    written = generation.step
    generation.cancel()
    assert (generation.done, generation.step) == (True, written)
    with pytest.raises(Cancelled):
        generation.result()


def test_who_asks_for_nothing_to_be_written_is_done_at_once(ernie: Path) -> None:
    encoder = load(ernie, ["encoder"])
    made = encoder.encoding(call({**ERNIE, "use_pe": False}))
    made.start()
    assert (made.done, made.step, made.steps) == (True, 0, 0)
    assert [name for name, _, _ in made.result()["kept"]] == ["encode_prompt"] * 2


def test_a_prompt_that_the_model_made_too_long_is_nobodys_mistake(ernie: Path) -> None:
    """The text encoder reads 32 tokens; what `pe` writes may be more, as bytes."""
    encoder, whole = load(ernie, ["encoder"]), load(ernie, ["monolithic"])
    for seed in range(3):
        run(encoder.encoding(call(ERNIE, seed)))
        drive(whole.generate(call(ERNIE, seed)))
    long = {**ERNIE, "negative_prompt": "no " * 20}
    with pytest.raises(Exception, match="negative_prompt is longer than the model reads"):
        run(encoder.encoding(call(long)))


def test_a_vision_language_model_that_upsamples_the_prompt() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = flux2()
    program = ClassicProgram(pipeline, "flux2", "f", CPU)
    assert program.info.generates == ["text_encoder"]
    asked = call({**FLUX2, "max_sequence_length": 256}, 3)
    (payload,) = run(program.encoding(asked))
    assert [name for name, _, _ in payload["kept"]] == ["upsample_prompt", "encode_prompt"]
    decoded = program.decode(asked, drive(program.denoise(asked, payload)))
    assert same(arrays(decoded), pixels(plain(pipeline, asked.inputs.params, 3)))


def test_the_pipelines_of_diffusers_that_have_something_written() -> None:
    names = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    kinds = {name: getattr(diffusers, name) for name in names}
    asking = {n for n, kind in kinds.items() if _is_pipeline(kind) and asks(kind)}
    assert {"Flux2Pipeline", "ErnieImagePipeline", "LTX2Pipeline", "GlmImagePipeline"} <= asking
    assert not asking & {"Flux2KleinPipeline", "QwenImagePipeline", "FluxPipeline", "WanPipeline"}


def _is_pipeline(kind: Any) -> bool:
    dummy = getattr(kind, "_backends", None)  # of a library that is not there
    return isinstance(kind, type) and issubclass(kind, DiffusionPipeline) and dummy is None
