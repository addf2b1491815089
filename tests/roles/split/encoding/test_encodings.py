"""The encoder's cache: the same bits, for what is the same, and for nothing else."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import launch
from roles.split.encoding.encodings import OVERHEAD_BYTES, Encodings, encoding_of
from roles.split.encoding.notes import Note
from roles.split.encoding.reading import Reading
from roles.split.encoding.recollection import Recollection
from roles.split.encoding.recording import Recorder
from roles.split.encoding.surroundings import Surroundings
from roles.split.loading import load
from roles.split.program import BadInput, Program
from roles.split.randomness import GlobalRandomness
from tests.support.pipelines import PARAMS, UNSPLITTABLE
from tests.support.splitting import arrays, call, cross, drive, plain, same, through_roles
from transfer.payload import pack

SPLITTABLE = sorted(PARAMS.keys() - UNSPLITTABLE)
CPU = torch.device("cpu")
DEMO = Path(launch.__file__).parent / "demo" / "model"


def written(payload: Any) -> bytes:
    packed = pack(payload)
    memory = memoryview(bytearray(packed.nbytes))
    packed.write([memory])
    return bytes(memory)


@pytest.fixture
def cached(program) -> Iterator[Any]:
    """A tiny model's program with a cache of its own."""
    given: list[Program] = []

    def get(name: str, *roles: str, limit: int = 1 << 26) -> Program:
        found = program(name, *roles or ("encoder",))
        found.encodings = Encodings(limit, found.info.fingerprint)
        given.append(found)
        return found

    yield get
    for each in given:
        each.encodings = None


@pytest.mark.parametrize("name", SPLITTABLE)
def test_a_hit_is_the_payload_of_a_miss_bit_for_bit(name, program, cached) -> None:
    params = PARAMS[name]
    asked = [call({**params, "num_inference_steps": 2 + seed}, seed) for seed in (1, 2, 3)]
    without = [written(program(name, "encoder").encode(each)) for each in asked]
    encoder = cached(name)
    told = []
    for each, payload in zip(asked, without, strict=True):
        assert written(encoder.encode(each)) == payload
        told.append(encoder.encodings.report)
    first, second, third = told
    assert first.hits == 0 < first.misses == first.entries
    assert second.hits > 0
    assert (third.hits - second.hits, third.misses) == (first.misses, second.misses)


@pytest.mark.parametrize("name", ["flux", "sdxl", "wan", "ltx2", "zimage", "stable_audio"])
def test_pixels_of_a_hit_are_the_plain_pipelines(name, folder, program, cached) -> None:
    encoder, others = cached(name), [program(name, role) for role in ("denoiser", "decoder")]
    encoder.encode(call(PARAMS[name], seed=1))
    samples = through_roles(encoder, *others, call(PARAMS[name], seed=8))
    assert encoder.encodings.report.hits > 0
    assert same(arrays(samples), plain(folder(name), PARAMS[name], 8))


def test_the_demo_model_too(program) -> None:
    whole = load(DEMO, ["encoder", "denoiser", "decoder"])
    params = {"prompt": "two green stars", "num_inference_steps": 2}
    without = [written(whole.encode(call(params, seed))) for seed in (1, 2)]
    whole.encodings = Encodings(1 << 20, whole.info.fingerprint)
    assert [written(whole.encode(call(params, seed))) for seed in (1, 2)] == without
    assert whole.encodings.report.hits == 1
    samples = through_roles(whole, whole, whole, call(params, 2))
    assert same(arrays(samples), plain(DEMO, params, 2))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sd3", {"prompt": "a blue circle"}),
        ("sd3", {"negative_prompt": "dull"}),
        ("sd3", {"max_sequence_length": 40}),
        ("sd3", {"guidance_scale": 1.0}),  # no negative prompt then
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_an_encoding_depends_on_is_part_of_its_key(name, changes, cached) -> None:
    encoder = cached(name)
    encoder.encode(call(PARAMS[name]))
    other = call({**PARAMS[name], **changes})
    again = written(encoder.encode(other))
    assert encoder.encodings.report.hits == 0
    encoder.encodings = None
    assert again == written(encoder.encode(other))


def test_what_other_threads_computed_is_no_hit(cached) -> None:
    encoder = cached("sd15")
    encoder.encode(call(PARAMS["sd15"]))
    torch.set_num_threads(2)
    try:
        encoder.encode(call(PARAMS["sd15"]))
    finally:
        torch.set_num_threads(1)
    assert encoder.encodings.report.hits == 0
    encoder.encode(call(PARAMS["sd15"]))
    assert encoder.encodings.report.hits > 0


def test_a_prompt_that_is_too_long_is_refused_each_time(cached) -> None:
    encoder = cached("sd15")
    request = call({**PARAMS["sd15"], "prompt": "a red circle " * 100})
    for _ in range(3):
        with pytest.raises(BadInput, match="longer than the model reads") as refused:
            encoder.encode(request)
        assert refused.value.param == "prompt"
    assert encoder.encodings.report.entries == 0


def test_the_least_recently_used_make_room(cached) -> None:
    encoder = cached("sd15")
    encoder.encode(call(PARAMS["sd15"]))
    size = encoder.encodings.report.nbytes
    encoder = cached("sd15", limit=2 * size + size // 2)

    def asks(prompt: str) -> bool:
        """Whether it was a hit."""
        before = encoder.encodings.report.hits
        encoder.encode(call({**PARAMS["sd15"], "prompt": prompt}))
        report = encoder.encodings.report
        assert report.nbytes <= report.limit
        return report.hits > before

    told = [asks(prompt) for prompt in ("a", "b", "a", "c", "a", "b")]
    assert told == [False, False, True, False, True, False]  # b made room for c


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = Encodings(OVERHEAD_BYTES + 100, "model")
    large = encoding_of(torch.zeros(1000), [], ())
    assert large is not None
    cache.keep(b"large", large)
    assert (cache.report.entries, cache.report.nbytes) == (0, 0)


# ---------------------------------------------------------------- calls that must not be kept


class Desk:
    """A recorder without a pipeline: requests of one cache, one after the other."""

    def __init__(self) -> None:
        self.cache = Encodings(1 << 20, "model")
        self.runs = 0

    def ask(
        self,
        method: Any,
        *args: Any,
        seed: int = 0,
        reading: Reading | None = None,
        around: Surroundings | None = None,
    ) -> Any:
        """What a request gets that calls a method in which an encoder computes."""
        generator = torch.Generator().manual_seed(seed)
        randomness = GlobalRandomness(seed, CPU)
        memory = Recollection(self.cache, reading or Reading({}), randomness)
        memory.begin(around or Surroundings())
        recorder = Recorder(generator, memory)
        encoder = recorder.watch("text_encoder", torch.nn.Identity())

        def encode(*given: Any) -> Any:
            self.runs += 1
            encoder(torch.zeros(1))
            return method(generator, *given)

        with randomness.in_place():
            result = recorder.method("encode_prompt", encode)(*args)
        memory.settle()
        assert [name for name, _, _ in recorder.kept] == ["encode_prompt"]
        return result


def test_a_call_that_draws_from_the_request_is_computed_each_time() -> None:
    desk = Desk()
    drawn = [desk.ask(lambda g: torch.randn(2, generator=g), seed=seed) for seed in (1, 1, 2)]
    assert desk.runs == 3
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_call_that_draws_from_the_global_generator_is_computed_each_time() -> None:
    desk = Desk()
    drawn = [desk.ask(lambda g: torch.randn(2), seed=seed) for seed in (1, 2)]
    assert desk.runs == 2
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("make", [torch.Generator, lambda: print, lambda: object()])
def test_a_call_with_something_unknown_is_computed_each_time(make) -> None:
    desk = Desk()
    for _ in range(2):
        desk.ask(lambda g, unknown: torch.zeros(1), make())
    assert desk.runs == 2
    assert desk.cache.report.misses == 2


def test_nobody_can_write_into_what_is_kept() -> None:
    desk = Desk()
    for _ in range(3):
        given = desk.ask(lambda g: [torch.zeros(2)])
        assert torch.equal(given[0], torch.zeros(2))
        given[0] += 1
        given.append("more")
    assert desk.runs == 1


def test_what_a_call_has_set_is_set_again() -> None:
    """LTX2 turns its tokenizer's padding side around in `encode_prompt`, and reads it later."""
    desk, tokenizers = Desk(), [SimpleNamespace(side="right") for _ in range(2)]
    for tokenizer in tokenizers:
        desk.ask(lambda _: setattr(tokenizers[0], "side", "left"), around=Surroundings(tokenizer))
    assert desk.runs == 1
    assert tokenizers[1].side == "left"


def test_what_a_call_sees_is_part_of_its_key() -> None:
    desk = Desk()
    for scale in (1.0, 2.0, 1.0):
        view = SimpleNamespace()
        around = Surroundings(view)
        view.guidance_scale = scale
        desk.ask(lambda _: torch.zeros(1), around=around)
    assert desk.runs == 2


def test_a_call_that_sets_more_than_a_value_is_computed_each_time() -> None:
    desk = Desk()
    for _ in range(2):
        view = SimpleNamespace()
        desk.ask(lambda _, own=view: setattr(own, "made", object()), around=Surroundings(view))
    assert desk.runs == 2


def test_arguments_are_what_they_were_before_the_call() -> None:
    """Z-Image writes its chat template into the list of prompts that it is given."""
    desk = Desk()

    def template(_: Any, prompts: list[str]) -> torch.Tensor:
        prompts[0] = f"<{prompts[0]}>"
        return torch.tensor([len(prompts[0])])

    for _ in range(2):
        assert desk.ask(template, ["abc"]).item() == 5
    assert desk.runs == 1


def test_a_hit_tells_what_the_tokenizers_had_read() -> None:
    """A prompt that one of two tokenizers cut is fine as long as the other one is known to have
    read it whole, and too long if it is known to have cut it."""
    desk, readings = Desk(), [Reading({"prompt": "a b"}) for _ in range(2)]
    note = Note("tokenizer", "ab", True)
    for reading in readings:
        desk.ask(lambda _: readings[0].note(note), reading=reading)
    assert desk.runs == 1
    assert readings[1].notes == [note]
    with pytest.raises(BadInput, match="longer than the model reads"):
        readings[1].check()


def test_a_failed_request_leaves_nothing(cached, monkeypatch) -> None:
    encoder = cached("sd15")
    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusionPipeline, "prepare_latents", None)
        with pytest.raises(TypeError):
            encoder.encode(call(PARAMS["sd15"]))
    assert encoder.encodings.report.entries == 0


def test_a_batch_of_images_is_encoded_once(program, cached) -> None:
    """Several pictures of one prompt are requests of their own, with seeds that follow."""
    encoder, denoiser = cached("flux"), program("flux", "denoiser")
    for seed in range(4):
        request = call(PARAMS["flux"], seed)
        drive(denoiser.denoise(request, cross(encoder.encode(request))))
    report = encoder.encodings.report
    assert report.hits == 3 * report.misses
