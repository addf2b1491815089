"""What holds of one case: its pipeline built, saved, loaded by role, run, and compared."""

import io
import tempfile
import traceback
from collections.abc import Callable, Collection
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from tests.conformance.case import Case
from tests.conformance.checks import batch, lora, ranks, resume, split
from tests.conformance.reasons import reason_of
from tests.conformance.subject import Subject
from tests.conformance.verdict import Batch, Judged, Lora, Ranks, Resume, Split, Verdict

Check = Callable[[Subject], Any]
CHECKS: dict[str, tuple[str, Check, type[Any]]] = {
    "split": ("split", split.check, Split),
    "half": ("split", partial(split.check, dtype="bfloat16"), Split),
    "batch": ("batch", batch.check, Batch),
    "resume": ("resume", resume.check, Resume),
    "ranks": ("ranks", ranks.check, Ranks),
    "lora": ("lora", lora.check, Lora),
}
"""By the field of the verdict: the name on the command line, the check, and its finding."""
NAMES = tuple(dict.fromkeys(name for name, _, _ in CHECKS.values()))


def judge(case: Case, checks: Collection[str] = NAMES) -> Judged:
    """Never raises for what the pipeline or a role does."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    verdict = Verdict(case.pipeline, case.workflow, case.quirk)
    heard = io.StringIO()
    with redirect_stderr(heard), tempfile.TemporaryDirectory() as scratch:
        try:
            subject = Subject(case, Path(scratch) / "model")
        except Exception as error:
            traceback.print_exc()
            verdict.split = Split("no", f"it is not built: {reason_of(error)}")
        else:
            for field, (name, check, kind) in CHECKS.items():
                if name in checks:
                    setattr(verdict, field, _found(subject, check, kind))
    return Judged(verdict, heard.getvalue())


def _found(subject: Subject, check: Check, kind: type[Any]) -> Any:
    """What a check found; what it raised is a failure of the case."""
    try:
        if kind is not Split:
            _prepare(subject)
        return check(subject)
    except _NotSplit as reason:
        return kind("none", str(reason))
    except Exception as error:
        traceback.print_exc()
        return kind("no", reason_of(error))


class _NotSplit(Exception):
    """There is nothing to ask of a request that does not come through its roles."""


def _prepare(subject: Subject) -> None:
    try:
        subject.passage()
    except Exception as error:
        raise _NotSplit("its roles do not run") from error
