"""All cases there are: those of the modules in `families`."""

import importlib
import pkgutil

from tests.conformance import families
from tests.conformance.case import Absent, Case


def cases() -> list[Case]:
    """In the order of their names."""
    return sorted(_all("CASES"), key=lambda case: case.name)  # type: ignore[attr-defined]


def absent() -> list[Absent]:
    return sorted(_all("ABSENT"), key=lambda one: one.pipeline)  # type: ignore[attr-defined]


def _all(kind: str) -> list[object]:
    found: list[object] = []
    for module in pkgutil.iter_modules(families.__path__):
        named = importlib.import_module(f"{families.__name__}.{module.name}")
        found += getattr(named, kind, ())
    return found
