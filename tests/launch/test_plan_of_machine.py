import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.plan import ALL_ROLES, Machine, Plan, Wish, plan

GIB = 1 << 30


def counts(chosen: Plan) -> list[int]:
    return [len(chosen.of(role)) for role in ("encoder", "denoiser", "decoder", "monolithic")]


def roles(chosen: Plan) -> list[str]:
    return [member.role for member in chosen.members]


@pytest.mark.parametrize(
    ("cores", "denoisers", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 2), (16, 2, 4), (128, 4, 21)]
)
def test_cores_decide_denoisers_and_threads_of_a_split(
    cores: int, denoisers: int, threads: int
) -> None:
    chosen = plan(Machine(cores), Wish(encoders=1))
    assert counts(chosen) == [1, denoisers, 1, 0]
    assert {member.threads for member in chosen.members} == {threads}
    assert {member.device for member in chosen.members} == {"cpu"}


@pytest.mark.parametrize(
    ("cores", "gib", "instances", "threads"),
    [(1, 16, 1, 1), (2, 16, 2, 1), (6, 16, 6, 1), (64, 64, 8, 8), (8, 6, 2, 4), (8, 1, 1, 8)],
)
def test_without_counts_each_core_gets_all_roles_as_far_as_memory_goes(
    cores: int, gib: int, instances: int, threads: int
) -> None:
    chosen = plan(Machine(cores, memory=gib * GIB), Wish(), needs=2 * GIB)
    assert roles(chosen) == [ALL_ROLES] * instances
    assert counts(chosen) == [instances] * 3 + [0]
    assert {(member.device, member.threads) for member in chosen.members} == {("cpu", threads)}
    assert chosen.complete


@pytest.mark.parametrize("needs", [None, 2 * GIB])
@pytest.mark.parametrize("memory", [None, 99 * GIB])
def test_what_is_not_known_is_not_multiplied(needs: int | None, memory: int | None) -> None:
    chosen = plan(Machine(4, memory=memory), Wish(), needs)
    assert len(chosen.members) == (4 if needs and memory else 1)


def test_threads_that_were_asked_for_bound_the_instances() -> None:
    machine = Machine(8, memory=99 * GIB)
    assert len(plan(machine, Wish(threads=2), GIB).members) == 4
    assert len(plan(machine, Wish(threads=16), GIB).members) == 1


def test_a_small_model_takes_more_requests_at_a_time() -> None:
    machine = Machine(2, memory=99 * GIB)
    assert plan(machine, Wish(), GIB).max_batch == 8
    assert plan(machine, Wish(), 9 * GIB).max_batch is None
    assert plan(machine, Wish(encoders=1), GIB).max_batch is None
    assert plan(Machine(2), Wish(), None).max_batch is None


def test_idle_cores_are_lent_where_threads_were_left_to_us() -> None:
    machine = Machine(2, memory=99 * GIB)
    assert plan(machine, Wish(), GIB).lends
    assert plan(machine, Wish(1, 1, 1), GIB).lends
    assert not plan(machine, Wish(threads=1), GIB).lends
    assert not plan(machine, Wish(all_in_one=1), GIB).lends  # it has all of them
    assert not plan(Machine(8, cuda_devices=2), Wish()).lends


def test_instances_with_all_roles_stand_alone_unless_a_split_is_asked_for() -> None:
    assert roles(plan(Machine(16), Wish(all_in_one=2))) == [ALL_ROLES] * 2
    mixed = plan(Machine(16), Wish(all_in_one=1, denoisers=1))
    assert roles(mixed) == [ALL_ROLES, "denoiser"]
    assert counts(mixed) == [1, 2, 1, 0]


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
    text = str(plan(Machine(2), Wish(denoisers=2, threads=1)))
    assert text == "1 encoder, 2 denoisers, 1 decoder on cpu, 1 thread each (2 cores)"
    text = str(plan(Machine(2, memory=99 * GIB), Wish(), GIB))
    assert text == (
        "2 with all roles on cpu, 1 thread each and those of idle ones (2 cores); one for each core"
    )


small = st.none() | st.integers(min_value=0, max_value=5)


@given(st.integers(1, 512), st.integers(0, 16), small, small, small, small, small)
def test_every_plan_has_unique_names_and_threads_that_fit(
    cores: int,
    devices: int,
    encoders: int,
    denoisers: int,
    decoders: int,
    monolithic: int,
    whole: int,
) -> None:
    wish = Wish(encoders, denoisers, decoders, monolithic, all_in_one=whole)
    try:
        chosen = plan(Machine(cores, devices, 9 * GIB), wish, GIB)
    except ValueError:
        return
    names = [member.name for member in chosen.members]
    assert len(set(names)) == len(names)
    threads = sum(member.threads for member in chosen.members)
    assert threads <= max(cores, len(names))


def test_ranks_share_the_cores_and_each_has_a_device() -> None:
    chosen = plan(Machine(16, cuda_devices=4), Wish(ranks=2))
    assert [(each.role, each.device, each.ranks, each.threads) for each in chosen.members] == [
        ("encoder", "cuda:0", 1, 2),
        ("denoiser", "cuda:0", 2, 2),
        ("denoiser", "cuda:2", 2, 2),
        ("decoder", "cuda:3", 1, 2),
    ]
    assert "with 2 ranks where they denoise" in str(chosen)


def test_ranks_take_memory_so_many_times() -> None:
    machine = Machine(8, memory=10 * GIB)
    assert len(plan(machine, Wish(ranks=2), needs=2 * GIB).members) == 2
    assert len(plan(machine, Wish(), needs=2 * GIB).members) == 4
    assert plan(machine, Wish(monolithic=1, ranks=2)).members[0].ranks == 2


def test_ranks_without_a_device_are_refused() -> None:
    with pytest.raises(ValueError, match="--ranks 4 need as many CUDA devices; there are 2"):
        plan(Machine(8, cuda_devices=2), Wish(ranks=4))
    assert plan(Machine(8, cuda_devices=2), Wish(ranks=4, device="cpu")).members
