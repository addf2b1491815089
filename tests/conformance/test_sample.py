"""Some of the suite's cases with each run of the tests: what the table says of them still holds."""

from pathlib import Path

import pytest
import torch

from tests.conformance import results
from tests.conformance.checks import split
from tests.conformance.sample import OTHERS, SAMPLE, T9, T10
from tests.conformance.subject import Subject
from tests.conformance.suite import absent, cases

MOST = 25
CASES = {case.name: case for case in cases()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


@pytest.mark.parametrize("name", T9)
def test_t9_edits_and_films_of_pictures_are_the_plain_pipelines(name: str, tmp_path: Path) -> None:
    is_exact(name, tmp_path)


@pytest.mark.parametrize("name", T10)
def test_t10_what_draws_in_its_loop_draws_what_the_plain_pipeline_does(
    name: str, tmp_path: Path
) -> None:
    is_exact(name, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_table_says_still_holds(name: str, tmp_path: Path) -> None:
    is_exact(name, tmp_path)


def is_exact(name: str, tmp_path: Path) -> None:
    """Bit for bit, through the roles; and told as in the table."""
    found = split.check(Subject(CASES[name], tmp_path / "model"))
    assert found.holds == "yes", found.why
    known = results.read().cases[name].split
    if known is not None and known.holds == "yes":
        assert (found.how, found.cut, found.crosses) == (known.how, known.cut, known.crosses)


def test_the_sample_is_small_and_each_is_there_for_something_else() -> None:
    assert len(SAMPLE) <= MOST
    assert SAMPLE.keys() <= CASES.keys()
    assert len(set(SAMPLE.values())) == len(SAMPLE)


def test_the_results_are_those_of_the_cases_that_exist() -> None:
    found = results.read()
    again = "judge them: python -m tests.conformance --write"
    assert found.cases.keys() == CASES.keys(), again
    assert found.absent == {one.pipeline: one.reason for one in absent()}, again
