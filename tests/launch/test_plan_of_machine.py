import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.plan import Machine, Plan, Wish, plan


def counts(chosen: Plan) -> list[int]:
    return [len(chosen.of(role)) for role in ("encoder", "denoiser", "decoder", "monolithic")]


@pytest.mark.parametrize(
    ("cores", "denoisers", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 2), (16, 2, 4), (128, 4, 21)]
)
def test_cores_decide_denoisers_and_threads(cores: int, denoisers: int, threads: int) -> None:
    chosen = plan(Machine(cores), Wish())
    assert counts(chosen) == [1, denoisers, 1, 0]
    assert {member.threads for member in chosen.members} == {threads}
    assert {member.device for member in chosen.members} == {"cpu"}


def test_each_cuda_device_gets_a_denoiser() -> None:
    chosen = plan(Machine(16, cuda_devices=3), Wish())
    assert [member.device for member in chosen.of("denoiser")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [chosen.of(role)[0].device for role in ("encoder", "decoder")] == ["cuda:0", "cuda:2"]


def test_what_was_asked_for_is_what_is_planned() -> None:
    chosen = plan(Machine(2, cuda_devices=2), Wish(2, 3, 0, None, "cuda:1", 5))
    assert counts(chosen) == [2, 3, 0, 0]
    assert {(member.device, member.threads) for member in chosen.members} == {("cuda:1", 5)}
    assert not chosen.complete


def test_monolithic_instances_stand_alone_unless_a_split_is_asked_for() -> None:
    assert counts(plan(Machine(16), Wish(monolithic=2))) == [0, 0, 0, 2]
    assert counts(plan(Machine(2), Wish(monolithic=1, denoisers=1))) == [0, 1, 0, 1]
    assert plan(Machine(2), Wish(monolithic=1)).complete


def test_names_are_unique_and_in_order() -> None:
    names = [member.name for member in plan(Machine(2), Wish(denoisers=2)).members]
    assert names == ["encoder-0", "denoiser-0", "denoiser-1", "decoder-0"]


def test_nothing_to_start_is_refused() -> None:
    with pytest.raises(ValueError, match="every count is 0"):
        plan(Machine(2), Wish(encoders=0, denoisers=0, decoders=0))


def test_it_says_what_it_chose() -> None:
    text = str(plan(Machine(2), Wish(denoisers=2)))
    assert text == "1 encoder, 2 denoisers, 1 decoder on cpu, 1 thread each (2 cores)"


small = st.none() | st.integers(min_value=0, max_value=5)


@given(st.integers(1, 512), st.integers(0, 16), small, small, small, small)
def test_every_plan_has_unique_names_and_threads_that_fit(
    cores: int, devices: int, encoders: int, denoisers: int, decoders: int, monolithic: int
) -> None:
    try:
        chosen = plan(Machine(cores, devices), Wish(encoders, denoisers, decoders, monolithic))
    except ValueError:
        return
    names = [member.name for member in chosen.members]
    assert len(set(names)) == len(names)
    threads = sum(member.threads for member in chosen.members)
    assert threads <= max(cores, len(names))
