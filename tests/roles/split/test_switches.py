"""The switches of a transformer for all requests: compiled, another attention, quantized."""

import importlib.util
import logging
from collections.abc import Iterator

import pytest
import torch
from diffusers.models import attention_dispatch as dispatch
from torch._dynamo.utils import counters

from roles.split.denoising.batching import key_of, merge
from roles.split.denoising.together import close
from roles.split.loading import load
from roles.split.program import Call, ModelError, Unavailable
from tests.support.pipelines import PARAMS
from tests.support.splitting import drive
from transfer.messages import Inputs, Speed, StepCache

QUANTIZER = importlib.util.find_spec("torchao")


def request(name, seed=1, **more):
    step_cache, exact = more.pop("step_cache", None), more.pop("exact", False)
    inputs = Inputs({**PARAMS[name], **more}, seed, exact=exact, step_cache=step_cache)
    return Call(f"r{seed}", inputs)


def latents(denoiser, encoder, asked):
    return drive(denoiser.denoise(asked, encoder.encode(asked)))["decodes"][0][1][0]


@pytest.fixture(autouse=True)
def attention() -> Iterator[None]:
    """diffusers makes the backend of one model that of all in its process."""
    before = dispatch._AttentionBackendRegistry._active_backend
    yield
    dispatch._AttentionBackendRegistry._active_backend = before


@pytest.fixture
def traced(monkeypatch):
    """Compiles as far as torch can tell when it has to again, without making machine code."""
    monkeypatch.setattr("roles.split.weights.compiling.BACKEND", "eager")
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["flux", "sd15"])
def test_after_the_warm_up_nothing_is_compiled(name, traced, folder, program):
    """Neither for other sizes, nor for shared forwards, nor for a request with a step cache."""
    encoder, plain = program(name, "encoder"), program(name, "denoiser")
    compiled = load(folder(name), ["denoiser"], speed=Speed(compile=True))
    ran: list[tuple[int, int]] = []
    compiled.warm(lambda *far: ran.append(far))
    graphs = traced()
    assert graphs > 0
    assert [done for done, _ in ran] == sorted({done for done, _ in ran})
    assert [done for done, _ in ran][:2] == [0, 1]
    assert ran[-1][0] == ran[-1][1]
    caches = [None] if name == "sd15" else [None, StepCache("first_block", threshold=0.6)]
    for cache in caches:
        for size in ({}, {"height": 48, "width": 32}, {"height": 64, "width": 80}):
            asked = request(name, step_cache=cache, **size)
            assert close(latents(compiled, encoder, asked), latents(plain, encoder, asked))
    several = [compiled.denoise(request(name, i), encoder.encode(request(name))) for i in range(5)]
    for each in several:
        each.start()
    calls = [call for each in several for call in each.pending]
    assert key_of(calls[0]) is not None
    for count in (1, 2, 3, 5):
        merge(calls[:count])[0].run()
    assert traced() == graphs


def test_what_reaches_into_compiled_blocks_is_refused(traced, folder):
    compiled = load(folder("flux"), ["denoiser"], speed=Speed(compile=True))
    assert compiled.info.step_caches == ["first_block"]
    with pytest.raises(Unavailable, match="no step cache taylorseer"):
        compiled.denoise(request("flux", step_cache=StepCache("taylorseer")), {"kept": []})
    with pytest.raises(ModelError, match="--step-cache pyramid: this model, started like this"):
        load(
            folder("flux"),
            ["denoiser"],
            speed=Speed(compile=True, step_cache=StepCache("pyramid", interval=2)),
        )


@pytest.mark.parametrize("speed", [Speed(compile=True), Speed(attention="_native_math")])
def test_exact_is_refused_where_it_cannot_be(speed, traced, folder, program):
    denoiser = load(folder("flux"), ["denoiser"], speed=speed)
    assert denoiser.info.speed == speed
    with pytest.raises(Unavailable, match="exact does not go with"):
        denoiser.denoise(request("flux", exact=True), {"kept": []})


def test_a_machine_without_a_compiler_says_so(monkeypatch, folder):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ModelError, match=r"--compile needs a C\+\+ compiler, .* no-such-compiler"):
        load(folder("flux"), ["denoiser"], speed=Speed(compile=True))


def test_another_attention_differs_by_rounding(folder, program):
    encoder, plain = program("flux", "encoder"), program("flux", "denoiser")
    other = load(folder("flux"), ["denoiser"], speed=Speed(attention="_native_math"))
    other.warm()
    asked = request("flux")
    assert close(latents(other, encoder, asked), latents(plain, encoder, asked))
    processor = other.pipeline.transformer.transformer_blocks[0].attn.processor
    assert processor._attention_backend == "_native_math"


@pytest.mark.parametrize(
    ("name", "backend", "words"),
    [
        ("flux", "quick", "--attention-backend quick: 'quick' must be one of"),
        ("flux", "flash", r"not usable because of missing package .*flash-attn"),
        ("sd15", "_native_math", "UNet2DConditionModel has no --attention-backend"),
    ],
)
def test_an_attention_that_there_is_not(name, backend, words, folder):
    with pytest.raises(ModelError, match=words) as refused:
        load(folder(name), ["denoiser"], speed=Speed(attention=backend))
    assert "\n" not in str(refused.value)


def test_what_loads_and_does_not_run_is_found_before_a_request(folder):
    denoiser = load(folder("flux"), ["denoiser"], speed=Speed(attention="_native_cudnn"))
    with pytest.raises(ModelError, match="does not run with attention-backend=_native_cudnn"):
        denoiser.warm()


def test_a_model_whose_request_cannot_be_made_up_starts_without(folder, caplog, monkeypatch):
    def fails(*_):
        raise RuntimeError("no shapes here")

    monkeypatch.setattr("roles.split.warming._imagined", fails)
    denoiser = load(folder("flux"), ["denoiser"])
    with caplog.at_level(logging.WARNING):
        denoiser.warm()
    assert "no warm-up: a request cannot be made up (no shapes here)" in caplog.text


@pytest.mark.parametrize("name", ["qwenimage", "sdxl", "sd3", "zimage"])
def test_a_denoiser_alone_makes_up_its_first_forwards(name, folder, monkeypatch, program):
    """Without the text encoders' weights, of the very form that real requests have."""
    seen = []
    monkeypatch.setattr("roles.split.warming._run", lambda info, calls, half: seen.append(calls[0]))
    program(name, "denoiser").warm()
    asked = request(name)
    denoising = program(name, "denoiser").denoise(asked, program(name, "encoder").encode(asked))
    denoising.start()
    real = denoising.pending[0]
    denoising.cancel()
    assert seen[0].name == real.name
    assert seen[0].kwargs.keys() == real.kwargs.keys()
    assert len(seen[0].args) == len(real.args)


@pytest.mark.skipif(QUANTIZER is not None, reason="torchao is installed")
def test_quantizing_needs_torchao(folder):
    with pytest.raises(ModelError, match=r"--quantize needs torchao, .*triptych\[quantize\]"):
        load(folder("flux"), ["denoiser"], speed=Speed(quantize="int8"))


@pytest.mark.skipif(QUANTIZER is None, reason="torchao is an optional extra")
@pytest.mark.parametrize("kind", ["int8", "int8-dynamic"])
def test_quantized_weights_give_nearly_the_same(kind, folder, program):
    encoder, plain = program("qwenimage", "encoder"), program("qwenimage", "denoiser")
    quantized = load(folder("qwenimage"), ["denoiser"], speed=Speed(quantize=kind))
    quantized.warm()
    asked = request("qwenimage")
    one, other = latents(quantized, encoder, asked), latents(plain, encoder, asked)
    assert one.dtype == other.dtype == torch.float32
    apart = (one - other).norm() / other.norm()
    assert 0 < apart < 0.05
    with pytest.raises(Unavailable, match="quantize"):
        quantized.denoise(request("qwenimage", exact=True), {"kept": []})


def test_only_the_denoiser_is_quantized(folder, program):
    assert load(folder("flux"), ["encoder"], speed=Speed(quantize="int8")).info.speed is None
