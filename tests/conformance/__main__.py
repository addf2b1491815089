"""`python -m tests.conformance [PATTERN …]`: judges the cases whose names match.

Each runs in a process of its own. Ends with 1 if something is worse than `results.json` says.
"""

import argparse
import fnmatch
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.conformance import report, results
from tests.conformance.children import judged
from tests.conformance.exported import exported
from tests.conformance.judge import CHECKS, NAMES, judge
from tests.conformance.suite import absent, cases
from tests.conformance.verdict import FINDINGS, Judged, Verdict

LIMIT_S = 300.0
OFTEN = 10
DECIDING = ("diffusers", "torch", "transformers")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)  # before the first forward, so that there are no threads to fork
    old, found = results.read(), []
    if options.write:
        old = _with_all_cases(old)
        _write(old)
    chosen = [case for case in cases() if _matches(case.name, options.patterns)]
    if options.only is not None:
        wanted = ONLY[options.only]
        chosen = [c for c in chosen if wanted(_findings(old.cases.get(c.name), options.checks))]
    for number, (case, told) in enumerate(
        judged(chosen, partial(judge, checks=options.checks), options.jobs, options.limit), 1
    ):
        found.append((case.name, told.verdict))
        print(f"{number}/{len(chosen)} {line(case.name, told.verdict)}", flush=True)
        _explain(told, options.traces)
        if options.write and number % OFTEN == 0:
            _write(results.merge(old, found))  # so that little is lost with this process
    print(summary([verdict for _, verdict in found], options.checks))
    worse = list(results.worse(old, found))
    for sentence in worse:
        print(f"worse: {sentence}")
    if options.write:
        _write(results.merge(old, found))
    sys.exit(1 if worse else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "patterns", nargs="*", default=["*"], help="names of cases, e.g. 'Flux*/inpainting'"
    )
    parser.add_argument(
        "--checks", type=_checks, default=NAMES, help=f"some of {','.join(NAMES)}; default: all"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="cases at a time; default: one a core"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, help="seconds for a case; default: %(default)g"
    )
    parser.add_argument(
        "--only", choices=ONLY, help=f"what {results.FILE.name} has not, has as failed, or both"
    )
    parser.add_argument("--traces", action="store_true", help="show where it went wrong")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"put what was found into {results.FILE.name}, and render {report.PAGE.name} of it",
    )
    return parser.parse_args()


def _checks(text: str) -> Sequence[str]:
    asked = text.split(",")
    if strange := set(asked) - set(NAMES):
        raise argparse.ArgumentTypeError(f"there is no check {', '.join(sorted(strange))}")
    return asked


def _findings(verdict: Verdict | None, checks: Iterable[str]) -> list[Any]:
    """Those of some checks; None where nothing was found yet."""
    fields = [field for field, (name, _, _) in CHECKS.items() if name in checks]
    return [getattr(verdict, field, None) for field in fields]


def _is_new(findings: Iterable[Any]) -> bool:
    return None in findings


def _has_failed(findings: Iterable[Any]) -> bool:
    return any(each is not None and each.holds == "no" for each in findings)


def _is_open(findings: list[Any]) -> bool:
    return _is_new(findings) or _has_failed(findings)


ONLY = {"new": _is_new, "failed": _has_failed, "open": _is_open}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(
        fnmatch.fnmatch(name, f"{pattern}") or name.startswith(f"{pattern}/")
        for pattern in patterns
    )


def line(name: str, verdict: Verdict) -> str:
    """All findings of a case."""
    told = [(field, getattr(verdict, field)) for field in FINDINGS]
    words = []
    for field, finding in told:
        if finding is not None:
            how = " (monolithic)" if getattr(finding, "how", "") == "monolithic" else ""
            words.append(
                f"{field} {finding.holds.upper() if finding.holds == 'no' else finding.holds}{how}"
            )
    return f"{name}: {', '.join(words)}"


def _explain(told: Judged, traces: bool) -> None:
    for field in FINDINGS:
        finding = getattr(told.verdict, field)
        if finding is not None and finding.holds == "no":
            print(f"    {field}: {finding.why}")
    if traces and told.traces:
        print(told.traces)


def summary(verdicts: Sequence[Verdict], checks: Sequence[str]) -> str:
    if "split" not in checks:
        return f"{len(verdicts)} cases"
    workflows = sum(each.exact for each in verdicts)
    classes = {each.pipeline for each in verdicts}
    exact = classes - {each.pipeline for each in verdicts if not each.exact}
    return (
        f"exact: {len(exact)} of {len(classes)} classes, {workflows} of {len(verdicts)} workflows"
    )


def _with_all_cases(old: results.Results) -> results.Results:
    """With the cases that exist, judged or not, and the classes that diffusers has."""
    empty = {c.name: Verdict(c.pipeline, c.workflow, c.quirk) for c in cases()}
    classes = exported()
    return results.Results(
        versions={name: version(name).partition("+")[0] for name in DECIDING},
        cases={name: old.cases.get(name, nothing) for name, nothing in empty.items()},
        absent={one.pipeline: one.reason for one in absent()},
        classes=classes.classic,
        modular=classes.modular,
        unavailable=classes.unavailable,
    )


def _write(found: results.Results) -> None:
    results.write(found)
    Path(report.PAGE).write_text(report.render(results.read()))


if __name__ == "__main__":
    main()
