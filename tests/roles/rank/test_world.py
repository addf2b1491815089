"""Ranks that are joined for real: what they divide is whole again, and nobody is left behind."""

import re
from typing import Any

import pytest

from tests.support.ranks import Case, run_cases

DIVIDED = "tests.support.divided:"
MUCH = 100  # samples that a rank has room for
CASES: dict[str, Case] = {
    "the batch of one call": (f"{DIVIDED}forwards", "guidance", 2, [[2], [MUCH] * 2, False, 2]),
    "two branches": (f"{DIVIDED}forwards", "guidance", 2, [[1, 1], [MUCH] * 2, False, 2]),
    "the first time": (f"{DIVIDED}forwards", "guidance", 2, [[2], [MUCH] * 2]),
    "fewer than ranks": (f"{DIVIDED}forwards", "guidance", 4, [[3], [MUCH] * 4, False, 2]),
    "uneven": (f"{DIVIDED}forwards", "guidance", 2, [[3, 3, 3], [MUCH] * 2, False, 2]),
    "one sample": (f"{DIVIDED}forwards", "guidance", 2, [[1], [MUCH] * 2, False, 2]),
    "mixed": (f"{DIVIDED}forwards", "guidance", 2, [[2], [MUCH] * 2, True, 2]),
    "one has less room": (f"{DIVIDED}forwards", "guidance", 2, [[1] * 4, [MUCH, 1]]),
    "one has no room": (f"{DIVIDED}forwards", "guidance", 2, [[4], [MUCH, 1]]),
    "disagree": (f"{DIVIDED}disagree", "guidance", 3, []),
    "killed": (f"{DIVIDED}killed", "guidance", 3, []),
    "hung": (f"{DIVIDED}hung", "guidance", 3, []),
    "ahead": (f"{DIVIDED}ahead", "guidance", 2, []),
}


@pytest.fixture(scope="module")
def told() -> dict[str, list[Any]]:
    """What each rank of each case gave: one process that imports, and forks."""
    return dict(zip(CASES, run_cases(list(CASES.values()), ["tests.support.divided"]), strict=True))


@pytest.mark.parametrize(
    ("case", "forwards"),
    [
        ("the batch of one call", [[1], [1]]),
        ("two branches", [[1], [1]]),
        ("the first time", [[1, 2], [1, 2]]),  # tried beside the whole
        ("fewer than ranks", [[1], [1], [1], [1]]),
        ("uneven", [[3], [6]]),
        ("one sample", [[1], [1]]),
        ("mixed", [[2], [2]]),  # found out at the first, and whole from then on
    ],
)
def test_what_is_divided_is_whole_again(
    told: dict[str, list[Any]], case: str, forwards: list[list[int]]
) -> None:
    assert [rank["forwards"] for rank in told[case]] == forwards
    assert all(all(rank["right"]) and not rank["errors"] for rank in told[case])


def test_a_rank_without_room_halves_the_forward_for_all(told: dict[str, list[Any]]) -> None:
    first, second = told["one has less room"]
    assert (first["most"], second["most"]) == (2, 2)
    assert all(first["right"] + second["right"])
    assert first["forwards"] == second["forwards"]


def test_a_forward_fails_in_all_ranks_or_in_none(told: dict[str, list[Any]]) -> None:
    first, second = told["one has no room"]
    assert first["errors"] == ["RankFailed: rank 1: RuntimeError: scripted: out of memory"]
    assert second["errors"] == ["RuntimeError: scripted: out of memory"]


def test_an_error_and_a_difference_are_told_to_all(told: dict[str, list[Any]]) -> None:
    first, second, third = told["disagree"]
    assert first[0] == third[0] == "RankFailed: rank 1: ValueError: no room"
    assert second[0] == "ValueError: no room"
    assert first[1].startswith("RankFailed: rank 1 does not hold what rank 0 holds")
    assert second[1].startswith("RankFailed: rank 0 does not hold what rank 1 holds")
    for rank in (first, second, third):
        assert rank[2:] == ["fine", "[True, False]"]


def test_who_waits_for_a_rank_that_was_killed_is_told_at_once(told: dict[str, list[Any]]) -> None:
    first, second, third = told["killed"]
    assert second is None
    for said in (first, third):  # one that was slow may be missed by the other
        assert re.match("it lost .*rank 1", said)


def test_who_waits_for_a_rank_that_hangs_knows_which_it_is(told: dict[str, list[Any]]) -> None:
    first, _, third = told["hung"]
    for said in (first, third):  # one that was slow may be missed by the other
        assert re.match("it lost .*rank 1", said)


def test_ranks_at_different_places_are_found_out(told: dict[str, list[Any]]) -> None:
    assert told["ahead"] == ["the ranks are at different places of their work"] * 2
