"""Whether three roles give the plain pipeline's bits, and what crosses between them."""

import traceback
from typing import Any

import numpy as np

from tests.conformance.payloads import crossing, cut, numbers
from tests.conformance.reasons import reason_of
from tests.conformance.subject import Passage, Subject
from tests.conformance.verdict import Split
from tests.support.splitting import Arrays, arrays, same


def check(subject: Subject, dtype: str = "float32") -> Split:
    """Where the roles fail or differ, says whether at least the whole has the bits. Raises what the
    plain pipeline raises in float32."""
    try:
        known = subject.plain(dtype)
    except Exception as error:
        if dtype == "float32":
            raise  # then it is no case
        return Split("none", f"the plain pipeline does not run in {dtype}: {reason_of(error)}")
    try:
        passage = subject.passage(dtype)
    except Exception as error:
        traceback.print_exc()
        return _whole(subject, dtype, reason_of(error))
    apart = difference(arrays(passage.samples), known)
    if apart and passage.unsplittable:
        return Split("no", f"monolithic: {apart}")
    if apart:
        return _whole(subject, dtype, apart)
    if passage.unsplittable:
        return Split("yes", passage.unsplittable, "monolithic")
    return _split(passage)


def _whole(subject: Subject, dtype: str, why: str) -> Split:
    """What is left if three roles do not do it."""
    try:
        made = arrays(subject.through(subject.call(), dtype, whole=True).samples)
    except Exception as error:
        traceback.print_exc()
        return Split("no", f"{why}; monolithic: {reason_of(error)}")
    if apart := difference(made, subject.plain(dtype)):
        return Split("no", f"{why}; monolithic: {apart}")
    return Split("no", why, "monolithic")


def _split(passage: Passage) -> Split:
    if not all(each.isfinite().all() for each in numbers(passage.result)):
        return Split("no", "the case shows nothing: what it makes are no numbers")
    to_denoiser, to_decoder = passage.sizes
    return Split(
        "yes",
        cut=cut(passage.result),
        crosses=crossing(passage.records),
        to_denoiser=to_denoiser,
        to_decoder=to_decoder,
    )


def difference(made: Arrays, known: Arrays) -> str:
    """Empty if they are the same, bit for bit."""
    if same(made, known):
        return ""
    shapes = [[each.shape for each in some] for some in (made, known)]
    if shapes[0] != shapes[1]:
        return f"it makes {_told(shapes[0])}, the plain pipeline {_told(shapes[1])}"
    pairs = zip(made, known, strict=True)
    apart = max(float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in pairs)
    return f"the largest difference is {apart:.1g}"


def _told(shapes: list[Any]) -> str:
    """How many arrays, of which shapes."""
    kinds = " and ".join(sorted({str(list(shape)) for shape in shapes})) or "nothing"
    return f"{len(shapes)} of {kinds}"
