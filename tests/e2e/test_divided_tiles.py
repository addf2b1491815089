"""Tiny random decoders on two and three ranks: bit for bit the tiled decode of one."""

from typing import Any

import pytest

from tests.support.ranks import Case, run_cases
from tests.support.tiled import SHARED, WHOLE

pytestmark = pytest.mark.timeout(900)  # a machine that has much else to do
TILED = "tests.support.tiled:"


@pytest.fixture(scope="module")
def told() -> dict[str, list[Any]]:
    cases: dict[str, Case] = {
        name: (f"{TILED}decode", "tiles", 2, [name]) for name in (*SHARED, *WHOLE)
    }
    cases["three"] = (f"{TILED}decode", "tiles", 3, ["wan"])
    cases["exact"] = (f"{TILED}decode", "tiles", 2, ["kl", True])
    cases["fails"] = (f"{TILED}fails", "tiles", 2, ["kl"])
    cases["short"] = (f"{TILED}short", "tiles", 2, ["kl"])
    cases["dies"] = (f"{TILED}dies", "tiles", 2, ["kl"])
    found = run_cases(list(cases.values()), ["tests.support.tiled"])
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize("name", [*SHARED, "three"])
def test_ranks_share_out_the_tiles_of_one(told: dict[str, list[Any]], name: str) -> None:
    computed = []
    for rank in told[name]:
        assert rank["same"] == [True, True]
        assert rank["way"] == ["tiles", "tiles"]
        assert rank["tiled"]  # which is another picture than the whole one
        assert 0 < len(rank["mine"]) < len(rank["whole"])
        computed += rank["mine"]
    assert sorted(computed) == sorted(told[name][0]["whole"])  # each by one


@pytest.mark.parametrize("name", WHOLE)
def test_tiles_that_depend_on_others_are_found_out(told: dict[str, list[Any]], name: str) -> None:
    for rank in told[name]:
        assert rank["same"] == [True, True]
        # perhaps after its own share, at which it was found out
        assert rank["mine"][-len(rank["whole"]) :] == rank["whole"]


def test_an_exact_request_is_decoded_whole(told: dict[str, list[Any]]) -> None:
    for rank in told["exact"]:
        assert rank["same"] == [True, True]
        assert rank["way"] == [None, None]


def test_a_decode_fails_in_all_ranks_and_names_the_one(told: dict[str, list[Any]]) -> None:
    first, second = told["fails"]
    assert first[0] == "RankFailed: rank 1: ValueError: scripted"
    assert second[0] == "ValueError: scripted"
    assert (first[1], second[1]) == ("same", "same")  # the next one


def test_memory_that_is_short_in_one_rank_has_all_decode_in_slices(
    told: dict[str, list[Any]],
) -> None:
    assert told["short"] == [["same", "tiles"], ["same", "tiles"]]


def test_who_waits_for_the_tiles_of_a_rank_that_died_says_so(told: dict[str, list[Any]]) -> None:
    first, second = told["dies"]
    assert second is None
    assert first.startswith("it lost rank 1")
