import pytest

from orchestrator.core.policies import Turns
from tests.support.bench import Bench
from transfer.messages import StateChanged, Work


def _first_choice(turns: Turns, last: int) -> int | None:
    return next(turns.after(last), None)


def test_turns_go_round_in_order() -> None:
    turns = Turns()
    for place in (7, 0, 3):
        turns.put(place, 0.0)
    chosen, last = [], -1
    for _ in range(4):
        last = next(turns.after(last))
        chosen.append(last)
    assert chosen == [0, 3, 7, 0]


def test_lower_numbers_come_first() -> None:
    turns = Turns()
    turns.put(0, 0.5)
    turns.put(1, 0.0)
    turns.put(2, 0.5)
    assert list(turns.after(0)) == [1, 2, 0]
    turns.put(1, 1.0)
    assert list(turns.after(-1)) == [0, 2, 1]


def test_who_left_is_not_chosen() -> None:
    turns = Turns()
    turns.put(1, 0.0)
    turns.discard(1)
    turns.discard(1)
    assert _first_choice(turns, -1) is None
    assert len(turns) == 0


@pytest.mark.parametrize("policy", ["round_robin", "least_loaded"])
def test_idle_instances_take_turns_in_registered_endpoint_order(policy: str) -> None:
    bench = Bench(policy=policy)
    encoders = [bench.join(f"encoder-{i}", "encoder") for i in range(3)]
    bench.join("denoiser-0", "denoiser")
    bench.join("decoder-0", "decoder")
    for id in "abc":
        bench.submit(id)
    assert [encoder.take(Work).request for encoder in encoders] == ["a", "b", "c"]


def test_least_loaded_looks_at_shares_of_capacity() -> None:
    bench = Bench(policy="least_loaded")
    small = bench.join("small", "encoder", capacity=1)
    large = bench.join("large", "encoder", capacity=4)
    bench.join("denoiser-0", "denoiser")
    bench.join("decoder-0", "decoder")
    for id in "abcde":
        bench.submit(id)
    assert len(small.got(Work)) == 1
    assert len(large.got(Work)) == 4


def test_an_instance_that_is_not_ready_is_passed_over() -> None:
    bench = Bench()
    first = bench.join("encoder-0", "encoder")
    second = bench.join("encoder-1", "encoder")
    bench.join("denoiser-0", "denoiser")
    bench.join("decoder-0", "decoder")
    first.say(StateChanged(first.epoch, "warming", "a rank died", []))
    bench.submit("a")
    bench.submit("b")
    assert len(second.got(Work)) == 2
    first.say(StateChanged(first.epoch, "ready", "back", []))
    bench.submit("c")
    assert first.take(Work).request == "c"
