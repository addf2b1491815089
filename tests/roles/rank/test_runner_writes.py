"""Encoders that write, in a rank: prompts are read, tokens come in turns and together, and whoever
ends, ends alone."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from roles.calls import Begin, Key, Outcome, Run, StepDone, Store
from roles.rank.runner import Runner
from roles.split.encoding.generation import Generation, Generator
from roles.split.program import Call
from roles.split.randomness import GlobalRandomness
from tests.support.scripted_program import INFO, ScriptedProgram
from tests.support.writers import ministral
from transfer.messages import Inputs, Scalar
from transfer.payload import unpack
from transfer.pool import SlotPool


class WritingProgram(ScriptedProgram):
    """Writes `tokens` (default 6) after a prompt of `words`; with 0 tokens, nothing. `breaks`: the
    pipeline fails when it has them."""

    info = replace(INFO, generates=["pe"])

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.pe = Generator("pe", ministral(layers=1))

    def encoding(self, call: Call) -> Generation:
        params = call.inputs.params

        def program(generation: Generation) -> Any:
            generate = generation.generate_of(self.pe)
            text = torch.zeros(1, 0, dtype=torch.long)
            if params.get("tokens", 6):
                text = generate(**asked(params), max_new_tokens=params.get("tokens", 6))
            if params.get("breaks"):
                raise RuntimeError("scripted")
            return {"text": text}

        randomness = GlobalRandomness(call.inputs.seed, torch.device("cpu"))
        return Generation(call.request, program, [self.pe], randomness)


def asked(params: dict[str, Any]) -> dict[str, Any]:
    ids = torch.arange(10, 10 + params.get("words", 5))[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Bench:
    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.wanted = True
        self.told: list[list[StepDone]] = []
        self.program = WritingProgram()
        self.pool = SlotPool.create(1, 1 << 16, 4)
        self.runner = Runner(
            self.program,
            self.pool,
            0,
            1,
            lambda: None,
            60.0,
            lambda: self.wanted,
            tell=self.told.append,
        )

    def encode(self, name: str, exact: bool = False, **params: Scalar) -> Outcome:
        """To where the prompt has been read."""
        inputs = Inputs(params, seed=1, exact=exact)
        (begun,) = self.runner.begin(Begin(name, 1, "encoder", inputs, None)).outcomes
        assert not begun.done
        (outcome,) = self.runner.run(Run("encode", (((name, 1),),))).outcomes
        return outcome

    def step(self, *names: str) -> list[Outcome]:
        group: tuple[Key, ...] = tuple((name, 1) for name in names)
        return self.runner.run(Run("step", (group,))).outcomes

    def text(self, name: str, outcome: Outcome) -> Any:
        assert outcome.nbytes is not None
        stored = self.runner.store(Store(name, 1, [0]))
        assert stored.checksum is not None
        segments = self.pool.segments([0], outcome.nbytes)
        return unpack(segments, outcome.nbytes, stored.checksum)["text"]

    def expected(self, **params: Scalar) -> Any:
        tokens = params.get("tokens", 6)
        return self.program.pe.module.generate(**asked(params), max_new_tokens=tokens)

    def close(self) -> None:
        self.runner.close()
        self.pool.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = torch.is_grad_enabled()
    with contextlib.closing(Bench()) as made:
        yield made
    torch.set_grad_enabled(before)


def test_an_encode_ends_when_the_prompt_is_read_and_tokens_are_steps(bench: Bench) -> None:
    read = bench.encode("a")
    assert (read.done, read.step, read.steps, read.error) == (False, 1, 6, None)
    assert read.batch_key is not None
    told = [bench.step("a")[0] for _ in range(5)]
    assert [(each.step, each.done) for each in told] == [(n, n == 6) for n in range(2, 7)]
    assert torch.equal(bench.text("a", told[-1]), bench.expected())
    assert not bench.runner.requests


def test_a_request_that_has_nothing_written_is_one_unit_as_ever(bench: Bench) -> None:
    outcome = bench.encode("a", tokens=0)
    assert outcome.done
    assert bench.text("a", outcome).numel() == 0


def test_a_turn_writes_on_until_something_is_wanted_and_tells_of_it(bench: Bench) -> None:
    bench.encode("a", tokens=9)
    bench.wanted = False
    (told,) = bench.step("a")
    assert (told.done, told.step) == (True, 9)
    assert bench.told
    assert all(0 < done.step < done.steps == 9 for (done,) in bench.told)


def test_requests_share_tokens_and_join_and_leave_between_them(bench: Bench) -> None:
    keys = {bench.encode(n, words=words).batch_key for n, words in (("a", 5), ("b", 9))}
    assert len(keys) == 1
    first = bench.step("a", "b")
    assert first[0].measured is None  # a trial tells nothing
    second = bench.step("a", "b")
    assert second[0].measured is not None
    assert second[0].measured.size == 2
    late = bench.encode("c", words=3, tokens=2)
    assert late.batch_key in keys
    ended = bench.step("a", "b", "c")
    assert [(each.step, each.done) for each in ended] == [(4, False), (4, False), (2, True)]
    assert torch.equal(bench.text("c", ended[2]), bench.expected(words=3, tokens=2))
    bench.wanted = False
    last = bench.step("a", "b")
    assert [each.done for each in last] == [True, True]
    for name, words, outcome in zip("ab", (5, 9), last, strict=True):
        assert torch.equal(bench.text(name, outcome), bench.expected(words=words))
    assert len(bench.program.pe.seats) == 0


def test_exact_shares_nothing(bench: Bench) -> None:
    assert bench.encode("a", exact=True).batch_key is None


def test_whoever_fails_or_is_dropped_leaves_the_others_alone(bench: Bench) -> None:
    bench.encode("a", tokens=8)
    bench.encode("b", tokens=3, breaks=True)
    bench.encode("c", tokens=8)
    bench.step("a", "b", "c")
    good, bad, other = bench.step("a", "b", "c")
    assert (good.error, other.error) == (None, None)
    assert bad.error is not None
    assert (bad.error.kind, bad.error.message) == ("rank_failed", "RuntimeError: scripted")
    bench.runner.drop(("c", 1))
    assert bench.runner.requests == 1
    bench.wanted = False
    (last,) = bench.step("a")
    assert torch.equal(bench.text("a", last), bench.expected(tokens=8))
    assert len(bench.program.pe.seats) == 0


def test_a_rank_does_not_sleep_while_something_is_written(bench: Bench) -> None:
    bench.encode("a")
    with pytest.raises(RuntimeError, match="1 requests"):
        bench.runner.sleep(1)
