"""Some of the suite's cases with each run of the tests: what the table says of them still holds."""

import pytest
import torch

from tests.conformance import results
from tests.conformance.case import Case
from tests.conformance.checks import split
from tests.conformance.subject import Subject
from tests.conformance.suite import absent, cases

MOST = 25
SAMPLE = [case for case in cases() if case.sample]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_what_the_table_says_still_holds(case: Case, tmp_path) -> None:
    known = results.read().cases[case.name].split
    found = split.check(Subject(case, tmp_path / "model"))
    assert (found.holds, found.how, found.cut) == (known.holds, known.how, known.cut), found.why
    assert found.crosses == known.crosses


def test_the_sample_is_small_and_has_every_mechanism_once() -> None:
    assert 0 < len(SAMPLE) <= MOST
    mechanisms = [case.sample for case in SAMPLE]
    assert len(mechanisms) == len(set(mechanisms))


def test_the_results_are_those_of_the_cases_that_exist() -> None:
    found = results.read()
    again = "judge them: python -m tests.conformance --write"
    assert found.cases.keys() == {case.name for case in cases()}, again
    assert found.absent == {one.pipeline: one.reason for one in absent()}, again
    assert all(each.split is not None for each in found.cases.values()), again
