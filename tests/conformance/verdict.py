"""What was found out of a case, as it stands in `results.json`. Imports no torch."""

from typing import Literal

import msgspec

Holds = Literal["yes", "no", "none"]


class Finding(msgspec.Struct, omit_defaults=True):
    """What one check found.

    `holds`: "yes"; "no", although it should; "none": there is nothing that could hold. `why`: the
    reason of all but "yes", in one sentence.
    """

    holds: Holds
    why: str = ""


class Split(Finding, omit_defaults=True):
    """Whether three roles give the plain pipeline's bits.

    `how`: "split"; "monolithic" if the model cannot be split, and `why` says why, or if only the
    whole has the bits and `holds` is "no". `cut`: what the decoder is asked to do, with what then
    crosses to it. `crosses`: what the denoiser gets. `to_denoiser`, `to_decoder`: bytes of the
    payloads, of this tiny pipeline.
    """

    how: Literal["split", "monolithic"] = "split"
    cut: str = ""
    crosses: list[str] = []  # msgspec copies it
    to_denoiser: int = 0
    to_decoder: int = 0


class Batch(Finding, omit_defaults=True):
    """Whether the forwards of two requests run as one.

    `shared`: the components whose calls did, `single`: those whose calls did not. `alike`: only
    requests with texts of one length share. `most`: calls in the largest forward, branches of
    guidance included. `apart`: the largest difference to single forwards in what the denoiser gives
    in the end, relative to its largest value.
    """

    shared: list[str] = []  # msgspec copies it
    single: list[str] = []  # msgspec copies it
    alike: bool = False
    most: int = 1
    apart: str = ""


class Resume(Finding, omit_defaults=True):
    """Whether a request goes on from its middle step in another program, to the same bits. `at`:
    the step, of how many."""

    at: str = ""


class Ranks(Finding, omit_defaults=True):
    """Whether two ranks that divide the forwards give what one gives. `guidance`: how far apart
    they are, relative, where samples or branches of guidance are divided; `tokens`: where the
    tokens of each sample are."""

    guidance: str = ""
    tokens: str = ""


class Lora(Finding, omit_defaults=True):
    """Whether adapters that the roles load give the bits of the plain pipeline with the same ones.
    `parts`: the components that they change."""

    parts: list[str] = []  # msgspec copies it


class Verdict(msgspec.Struct, omit_defaults=True):
    """All that is known of a case; None: not judged. `split` is of float32, `half` of bfloat16."""

    pipeline: str
    workflow: str
    quirk: str = ""
    split: Split | None = None
    half: Split | None = None
    batch: Batch | None = None
    resume: Resume | None = None
    ranks: Ranks | None = None
    lora: Lora | None = None

    @property
    def exact(self) -> bool:
        """Whether the plain pipeline's bits come out, in both dtypes if it runs in both."""
        split, half = self.split, self.half
        if split is None or half is None:
            return False
        return split.holds == "yes" and half.holds in ("yes", "none")


class Judged(msgspec.Struct):
    """A verdict, and for whoever looks into it the tracebacks of what went wrong."""

    verdict: Verdict
    traces: str = ""


FINDINGS = ("split", "half", "batch", "resume", "ranks", "lora")
"""The fields of a verdict that are findings, in the order of the table."""


def rounded(number: float) -> str:
    """A difference, to one digit: more of them would differ from machine to machine."""
    return "0" if number == 0 else f"{number:.0e}"
