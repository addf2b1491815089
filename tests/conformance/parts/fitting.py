"""Cases of a family whose pipelines take most of the same parts."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import diffusers

from tests.conformance.case import Case

Parts = dict[str, Any]


def case(
    pipeline: str, workflow: str, parts: Callable[[], Parts], arguments: Parts, **notes: Any
) -> Case:
    """Of that class of diffusers, built of as many of the parts as its constructor takes."""
    return Case(
        pipeline,
        workflow,
        lambda: fit(pipeline, parts()),
        lambda: copy.deepcopy(arguments),
        **notes,
    )


def fit(pipeline: str, parts: Parts) -> Any:
    kind = getattr(diffusers, pipeline)
    known = inspect.signature(kind.__init__).parameters
    return kind(**{name: part for name, part in parts.items() if name in known})
