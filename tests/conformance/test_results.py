"""What is written, merged, and found to be worse."""

from pathlib import Path

import pytest

from tests.conformance import results
from tests.conformance.reasons import reason_of
from tests.conformance.results import Results
from tests.conformance.verdict import Batch, Finding, Resume, Split, Verdict

NAME = "FluxPipeline/text-to-image"


def flux(**findings: Finding) -> tuple[str, Verdict]:
    return NAME, Verdict("FluxPipeline", "text to image", **findings)


def known(**findings: Finding) -> Results:
    return Results(cases=dict([flux(**findings)]))


def test_a_file_comes_back_as_it_was_and_changes_by_lines(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    one = known(split=Split("yes", cut="vae.decode"), batch=Batch("yes", shared=["unet"]))
    results.write(one, file)
    before = file.read_text().splitlines()
    assert results.read(file) == one
    results.write(results.merge(one, [flux(batch=Batch("none", "it runs alone"))]), file)
    after = file.read_text().splitlines()
    assert len(before) == len(after)
    assert [a for a, b in zip(after, before, strict=True) if a != b] == [
        '   "batch": {"holds": "none", "why": "it runs alone"}'
    ]


def test_what_was_not_judged_now_stays_as_it_was() -> None:
    merged = results.merge(
        known(split=Split("yes"), resume=Resume("yes")), [flux(half=Split("no"))]
    )
    verdict = merged.cases[NAME]
    assert (verdict.split, verdict.half, verdict.resume) == (
        Split("yes"),
        Split("no"),
        Resume("yes"),
    )
    assert not verdict.exact


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (Split("yes"), Split("no", "the largest difference is 1"), True),
        (Split("yes"), Split("yes", how="monolithic"), True),
        (Split("yes", how="monolithic"), Split("yes"), False),
        (Split("no", "it fails"), Split("no", "it fails otherwise"), False),
    ],
)
def test_worse_is_named(before: Split, now: Split, worse: bool) -> None:
    told = list(results.worse(known(split=before), [flux(split=now)]))
    assert bool(told) == worse
    if worse:
        assert told[0].startswith(f"{NAME}: split was yes (split) and is {now.holds}")


def test_a_case_that_nobody_knew_is_not_worse() -> None:
    assert not list(results.worse(Results(), [flux(split=Split("no"))]))


def test_reasons_are_the_same_on_every_machine() -> None:
    error = ValueError(
        "no file /home/someone/model/config.json of <object at 0x7f00aa11bb22>\nmore"
    )
    assert reason_of(error) == "ValueError: no file … of <object at 0x…>"
    assert len(reason_of(ValueError("a" * 999))) == 200
