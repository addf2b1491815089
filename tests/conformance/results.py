"""`results.json`: what holds of every case, as it was last found. Imports no torch."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.conformance.verdict import FINDINGS, Verdict

FILE = Path(__file__).with_name("results.json")
LEVELS = 3  # of the file: its parts, their cases, their findings


class Results(msgspec.Struct):
    """`versions`: of the packages that decide. `cases`: by name. `absent`: classes without a case,
    and why. `classes`, `modular`: all that diffusers exports; `unavailable`: what it exports but
    cannot be imported here, and what is missing for it."""

    versions: dict[str, str] = {}  # msgspec copies it
    cases: dict[str, Verdict] = {}  # msgspec copies it
    absent: dict[str, str] = {}  # msgspec copies it
    classes: list[str] = []  # msgspec copies it
    modular: list[str] = []  # msgspec copies it
    unavailable: dict[str, str] = {}  # msgspec copies it

    @property
    def unjudged(self) -> list[str]:
        """Classes that are neither a case nor absent."""
        known = {each.pipeline for each in self.cases.values()} | self.absent.keys()
        return [name for name in (*self.classes, *self.modular) if name not in known]


def read(file: Path = FILE) -> Results:
    """Of no file, nothing."""
    return msgspec.json.decode(file.read_bytes(), type=Results) if file.exists() else Results()


def write(results: Results, file: Path = FILE) -> None:
    """Sorted, a finding a line, so that a change of one shows as one line."""
    plain: dict[str, Any] = msgspec.to_builtins(results)
    for name in ("absent", "cases", "unavailable", "versions"):
        plain[name] = dict(sorted(plain[name].items()))
    file.write_text(f"{_text(plain, LEVELS)}\n")


def _text(value: Any, levels: int, indent: str = "") -> str:
    """JSON, with the entries of the outer `levels` on lines of their own."""
    if not value or not levels or not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent} "
    lines = [
        f"{inner}{json.dumps(name)}: {_text(each, levels - 1, inner)}"
        for name, each in value.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def merge(old: Results, found: Iterable[tuple[str, Verdict]]) -> Results:
    """The old ones, with the findings that are new in their places."""
    cases = dict(old.cases)
    for name, verdict in found:
        known = cases.get(name)
        if known is not None:
            for field in FINDINGS:
                if getattr(verdict, field) is None:
                    setattr(verdict, field, getattr(known, field))
        cases[name] = verdict
    return msgspec.structs.replace(old, cases=cases)


def worse(old: Results, found: Iterable[tuple[str, Verdict]]) -> Iterator[str]:
    """A sentence for each finding that was better before."""
    for name, verdict in found:
        known = old.cases.get(name)
        for field in FINDINGS if known is not None else ():
            before, now = getattr(known, field), getattr(verdict, field)
            if before is not None and now is not None and _rank(now) < _rank(before):
                yield f"{name}: {field} was {_told(before)} and is {_told(now)}"


def _rank(finding: Any) -> tuple[int, int]:
    whole = getattr(finding, "how", "split") == "monolithic"
    return ("no", "none", "yes").index(finding.holds), -whole


def _told(finding: Any) -> str:
    how = f" ({finding.how})" if hasattr(finding, "how") else ""
    why = f": {finding.why}" if finding.why else ""
    return f"{finding.holds}{how}{why}"
