"""docs/models.md is what results.json says, and neither is of other versions than the pinned."""

from pathlib import Path

import pytest

from roles.split import quirks
from tests.conformance import exceptions, report, results
from tests.conformance.results import Results
from tests.conformance.verdict import Batch, Lora, Ranks, Resume, Split, Verdict

ROOT = Path(__file__).parents[2]
AGAIN = "write it anew: python -m tests.conformance.report"


@pytest.fixture(scope="module")
def found() -> Results:
    return results.read()


def test_the_page_is_what_the_results_say(found: Results) -> None:
    assert report.PAGE.read_text() == report.render(found), AGAIN


def test_the_results_are_of_the_pinned_versions(found: Results) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert found.versions == {name: pins[name] for name in found.versions}
    assert found.versions.keys() >= {"diffusers", "torch", "transformers"}


def test_no_result_is_of_one_machine(found: Results) -> None:
    text = results.FILE.read_text()
    assert not [each for each in ("/tmp/", "/home/", "/root/", "0x7") if each in text]


def test_a_class_is_judged_absent_or_named_as_neither(found: Results) -> None:
    judged = {each.pipeline for each in found.cases.values()}
    every = {*found.classes, *found.modular}
    assert judged | found.absent.keys() | set(found.unjudged) == every | found.absent.keys()
    assert not judged & found.absent.keys()
    page = report.PAGE.read_text()
    assert all(name in page for name in every)


def test_every_failure_has_a_reason(found: Results) -> None:
    for name, verdict in found.cases.items():
        for field in report.FINDINGS:
            finding = getattr(verdict, field)
            assert finding is None or finding.holds == "yes" or finding.why, f"{name}: {field}"


def test_the_tables_of_quirks_are_all_there() -> None:
    told = {(each.table, each.entry) for each in exceptions.known()}
    assert ("UNPOSED", "unet") in told
    for name, table in vars(quirks).items():
        if name.isupper() and not name.startswith("_"):
            assert {entry for table_, entry in told if table_ == name} == set(map(str, table))
    assert all(len(each.why) > 20 for each in exceptions.known())


def test_a_row_says_what_holds_and_failures_say_why() -> None:
    good = Verdict(
        "Good",
        "text to image",
        "",
        Split("yes", cut="vae.decode", crosses=["encode_prompt"], to_denoiser=4864, to_decoder=576),
        Split("yes", cut="vae.decode"),
        Batch("yes", shared=["unet"], single=["controlnet"], alike=True, apart="2e-06"),
        Resume("yes", at="1 of 3"),
        Ranks("yes", guidance="0", tokens="3e-07"),
        Lora("none", "diffusers loads no LoRA into this class"),
    )
    bad = Verdict("Bad", "prior", "", Split("no", "a | b"), Split("yes", "no VAE", "monolithic"))
    bad.lora = Lora("yes", parts=["prior", "text_encoder"])
    page = report.render(Results(cases={"Bad/prior": bad, "Good/text-to-image": good}))
    assert (
        "| Good | text to image | `vae.decode` | yes | yes | unet, not controlnet (2e-06, alike) "
        "| at 1 of 3 | g 0, t 3e-07 | - | encode_prompt: 4,864; 576 |"
    ) in page
    assert "| Bad | prior |  | **no** | yes | ? | ? | ? | prior, text_encoder |  |" in page
    assert "| Bad | prior | fp32 | a \\| b |" in page
    assert "| LoRA | diffusers loads no LoRA into this class | Good |" in page
    assert "| cases | 2 | 2 |" in page
    assert "| the plain pipeline's pixels, fp32 and bf16 | 1 | 1 |" in page
