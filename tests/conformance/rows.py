"""The table of all pipelines in `docs/models.md`: a row for each case."""

from collections.abc import Callable
from typing import Any

from tests.conformance.verdict import Verdict

COLUMNS = (
    "pipeline",
    "workflow",
    "split",
    "fp32",
    "bf16",
    "batches",
    "resumes",
    "two ranks",
    "LoRA",
    "crosses",
)


def row(verdict: Verdict) -> list[str]:
    """Its cells."""
    return [
        verdict.pipeline,
        verdict.workflow,
        _cut(verdict),
        word(verdict.split),
        word(verdict.half),
        _cell(verdict.batch, _batches),
        _cell(verdict.resume, lambda found: f"at {found.at}"),
        _cell(verdict.ranks, _ranks),
        _cell(verdict.lora, lambda found: ", ".join(found.parts)),
        _crosses(verdict),
    ]


def _cut(verdict: Verdict) -> str:
    found = verdict.split
    if found is None or (found.holds == "no" and found.how == "split"):
        return ""
    return f"`{found.cut}`" if found.how == "split" else "monolithic"


def word(found: Any) -> str:
    """What holds of a finding; None: it was not judged."""
    if found is None:
        return "?"
    return {"yes": "yes", "no": "**no**", "none": "-"}[found.holds]


def _cell(found: Any, told: Callable[[Any], str]) -> str:
    """More than a yes, where there is more."""
    return told(found) if found is not None and found.holds == "yes" else word(found)


def _batches(found: Any) -> str:
    alike = ", alike" if found.alike else ""
    single = f", not {', '.join(found.single)}" if found.single else ""
    return f"{', '.join(found.shared)}{single} ({found.apart}{alike})"


def _ranks(found: Any) -> str:
    told = {"g": found.guidance, "t": found.tokens}
    return ", ".join(f"{letter} {apart}" for letter, apart in told.items() if apart)


def _crosses(verdict: Verdict) -> str:
    found = verdict.split
    if found is None or not found.to_denoiser:
        return ""
    names = ", ".join(found.crosses)
    return f"{names}: {found.to_denoiser:,}; {found.to_decoder:,}"
