"""How many threads a rank computes with, when it shares the cores of its machine."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from roles.calls import Begin, Key, Outcome, Run
from roles.cores import Cores
from roles.rank.runner import Runner
from tests.support.batching_program import BatchingProgram
from transfer.messages import Inputs
from transfer.pool import SlotPool


class SharedCores(Cores):
    """Four cores, and as many others that compute as a test says."""

    def __init__(self) -> None:
        super().__init__(1, 4, "/dev/null")
        self.others = 0

    def _others(self) -> int:
        return self.others


class Bench:
    def __init__(self) -> None:
        self.cores = SharedCores()
        self.seen: list[int] = []
        self.pool = SlotPool.create(1, 1 << 16, 4)
        program = BatchingProgram(room=8)
        program.module.register_forward_pre_hook(self._look)
        self.runner = Runner(
            program, self.pool, 0, 1, lambda: None, 60.0, self.cores.changed, self.cores
        )

    def _look(self, module: torch.nn.Module, args: Any) -> None:
        self.seen.append(torch.get_num_threads())

    def begin(self, name: str, exact: bool = False) -> Outcome:
        inputs = Inputs({"steps": 3}, seed=1, exact=exact)
        [told] = self.runner.begin(Begin(name, 1, "monolithic", inputs, None)).outcomes
        return told

    def turn(self, *names: str) -> list[Outcome]:
        group: tuple[Key, ...] = tuple((name, 1) for name in names)
        self.seen = []
        return self.runner.run(Run("step", (group,))).outcomes


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as a rank begins
    made = Bench()
    with contextlib.closing(made.runner), contextlib.closing(made.pool):
        yield made
    made.cores.close()
    torch.set_num_threads(before)


def test_one_that_computes_alone_uses_all_cores(bench: Bench) -> None:
    bench.begin("a")
    [told] = bench.turn("a")
    assert told.done
    assert bench.seen == [4, 4, 4]


def test_cores_go_back_with_the_next_step(bench: Bench) -> None:
    bench.begin("a")

    def somebody_begins(*_: object) -> None:
        bench.cores.others = 1

    hook = bench.runner.program.module.register_forward_hook(somebody_begins)  # type: ignore[attr-defined]
    [told] = bench.turn("a")
    hook.remove()
    assert (told.step, bench.seen) == (1, [4])
    [told] = bench.turn("a")
    assert told.done
    assert bench.seen == [2, 2]


def test_an_exact_request_keeps_to_the_ranks_own_threads(bench: Bench) -> None:
    bench.begin("other")
    bench.begin("exact", exact=True)
    [told] = bench.turn("exact")
    assert told.done
    assert bench.seen == [1, 1, 1]
    bench.turn("other")
    assert bench.seen == [4, 4, 4]


def test_one_exact_request_decides_for_its_group(bench: Bench) -> None:
    bench.begin("other")
    bench.begin("exact", exact=True)
    bench.turn("other", "exact")
    assert set(bench.seen) == {1}


def test_what_forwards_cost_is_learned_by_threads(bench: Bench) -> None:
    keys = []
    for others in (0, 1, 3):
        bench.cores.others = others
        told = bench.begin(f"r{others}")
        [turn] = bench.turn(f"r{others}")
        assert turn.measured is not None
        assert turn.measured.key == told.batch_key
        keys.append(turn.measured.key)
    assert len(set(keys)) == 3
    assert [key.partition("x")[0] for key in keys[:2]] == ["4", "2"]
    assert [key.partition("x")[2] for key in keys[:2]] == [keys[2]] * 2
