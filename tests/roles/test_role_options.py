"""What an instance is started with, and how it introduces itself."""

import json
import os

import pytest

from roles.leader.introduction import advertised, ready_line, this_host
from roles.options import RoleOptions
from transfer.messages import Role


def options(**settings: object) -> RoleOptions:
    given = {"orchestrator": "tcp://127.0.0.1:1", "model": "m", "roles": ("encoder",), **settings}
    return RoleOptions(**given)  # type: ignore[arg-type]


def test_capacity_is_one_more_than_computes() -> None:
    assert options(roles=("encoder", "decoder")).capacity() == {"encoder": 2, "decoder": 3}
    fifo = options(roles=("denoiser",), max_batch=4, schedule="fifo")
    assert fifo.capacity() == {"denoiser": 5}
    sjf = options(roles=("denoiser",), max_batch=4, schedule="sjf")
    assert sjf.capacity() == {"denoiser": 9}  # short ones find room beside long ones
    assert options(roles=("monolithic",), max_batch=1).capacity() == {"monolithic": 3}


def test_threads_are_the_usable_cores_divided_by_the_ranks() -> None:
    cores = len(os.sched_getaffinity(0))
    assert options().thread_count() == cores
    assert options(ranks=cores + 1).thread_count() == 1
    assert options(threads=7).thread_count() == 7


@pytest.mark.parametrize(
    ("roles", "parallel", "joins"),
    [
        (("denoiser",), None, True),
        (("monolithic",), "guidance=2,tiles", True),
        (("encoder", "decoder"), "tiles", True),
        (("decoder",), None, False),
        (("encoder",), None, False),
    ],
)
def test_ranks_are_joined_where_they_divide_something(
    roles: tuple[Role, ...], parallel: str | None, joins: bool
) -> None:
    assert options(roles=roles, parallel=parallel, ranks=2).joins is joins
    assert not options(roles=roles, parallel=None, ranks=1).joins


def test_each_rank_has_a_device() -> None:
    assert [options(device="cuda:1", ranks=2).rank_device(rank) for rank in (0, 1)] == [
        "cuda:1",
        "cuda:2",
    ]
    assert options(device="cuda", ranks=2).rank_device(1) == "cuda:1"
    assert options(device="cpu").rank_device(3) == "cpu"


def test_a_name_is_made_up_if_none_is_given() -> None:
    assert options(name="denoiser-0").given_name() == "denoiser-0"
    first, second = (options(roles=("encoder", "decoder")).given_name() for _ in range(2))
    assert first.startswith("encoder+decoder-")
    assert first != second


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "tcp://box:1234"),
        ("tcp://0.0.0.0:1234", "tcp://box:1234"),
        ("tcp://*:0", "tcp://box:1234"),
        ("tcp://10.0.0.7:1234", "tcp://10.0.0.7:1234"),
    ],
)
def test_the_advertised_endpoint(endpoint: str | None, expected: str) -> None:
    told = advertised(options(advertise="box", endpoint=endpoint), "tcp://0.0.0.0:1234")
    assert told == expected


def test_the_ready_line_is_json() -> None:
    line = json.loads(ready_line(options(roles=("encoder", "decoder")), "both", [5, 6]))
    assert line == {
        "ready": True,
        "role": "encoder,decoder",
        "name": "both",
        "pid": os.getpid(),
        "rank_pids": [5, 6],
        "control": "tcp://127.0.0.1:1",
    }


def test_this_host() -> None:
    host = this_host()
    assert host.pid == os.getpid()
    assert host == this_host()
