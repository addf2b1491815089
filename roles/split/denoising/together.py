"""Runs forwards of several requests as one, and gives each request its own result or error."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from roles.split.denoising.batching import lists_samples, merge, split, tensors
from roles.split.parallel.across import Across
from roles.split.program import TransformerCall

log = logging.getLogger(__name__)

MAX_PROVEN = 1024
# relative to the length of the result as a vector; rounding is far below, a mistake far above
TOLERANCE = {torch.float32: 5e-3, torch.float64: 5e-3}
TOLERANCE_HALF = 5e-2
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")


@dataclass(frozen=True)
class Shared:
    """What came of a shared forward.

    `results`: for each call what its forward gave, or the exception that is this request's own.
    `size`: how many calls the largest forward had. `most`: what was learned, if anything: no more
    than so many at a time. `trial`: whether something was checked beside it, so that the time tells
    nothing.
    """

    results: list[Any]
    size: int
    most: int | None = None
    trial: bool = False


class Together:
    """Runs calls with equal keys as one forward. One for a rank's life.

    The first shared forward of each form is a trial: one request's forward is also run alone, and
    when the results differ by more than rounding, the model has been misunderstood and no such
    forward is shared again (`most` is 1).

    Out of memory, the calls are halved, and both halves run. After any other error each call runs
    alone once: so a request with a bad value ends by itself.

    `across`: the ranks that divide such a forward. For them the batch of a single call is as good
    as several calls. All of them try, halve and prove the same, because a forward fails in all of
    them or in none.
    """

    def __init__(self, across: Across | None = None) -> None:
        self._across = across
        self._proven: OrderedDict[str, None] = OrderedDict()
        self._whole: OrderedDict[str, None] = OrderedDict()  # single calls that are not divided

    def run(self, calls: Sequence[TransformerCall], key: str) -> Shared:
        """Never raises. `key` is that of all calls (`batching.key_of`); empty: each runs by itself,
        as in the plain pipeline."""
        if len(calls) == 1 and not self._divides(calls[0], key):
            return self._alone(calls)
        no_memory, reason = False, ""
        try:
            results = self._batched(calls)
        except Exception as error:  # let go of before the next try: its frames hold tensors
            no_memory, reason = is_out_of_memory(error), f"{type(error).__name__}: {error}"
        else:
            return self._checked(calls, results, key.partition(":")[0])
        return self._halved(calls, key) if no_memory else self._isolated(calls, key, reason)

    def _divides(self, call: TransformerCall, key: str) -> bool:
        form = key.partition(":")[0]
        return bool(
            self._across and form and form not in self._whole and self._across.divides(call)
        )

    def _batched(self, calls: Sequence[TransformerCall]) -> list[Any]:
        if self._across is not None:
            return self._across.run(calls)
        merged, counts = merge(calls)
        return split(merged.run(), counts, lists_samples(calls[0]))

    def _alone(self, calls: Sequence[TransformerCall]) -> Shared:
        results: list[Any] = []
        for call in calls:
            try:
                results.append(self._across.whole(call) if self._across else call.run())
            except Exception as error:
                results.append(error)
        return Shared(results, 1)

    def _halved(self, calls: Sequence[TransformerCall], key: str) -> Shared:
        free_memory()
        if len(calls) == 1:  # all ranks together had no room for it
            return self._alone(calls)
        middle = (len(calls) + 1) // 2
        log.warning("out of memory with %d requests in one forward; halved", len(calls))
        one, other = self.run(calls[:middle], key), self.run(calls[middle:], key)
        most = min(half.most or middle for half in (one, other))
        size = max(one.size, other.size)
        return Shared(one.results + other.results, size, most, trial=True)

    def _checked(self, calls: Sequence[TransformerCall], results: list[Any], form: str) -> Shared:
        if form in self._proven:
            self._proven.move_to_end(form)
            return Shared(results, len(calls))
        if self._agrees(calls, results):
            _remember(self._proven, form)
            return Shared(results, len(calls), trial=True)
        return self._isolated(calls, form, "one request's result is not what it is alone")

    def _agrees(self, calls: Sequence[TransformerCall], results: list[Any]) -> bool:
        """Whether one of the requests gets the same alone."""
        alone = self._alone(calls[-1:]).results[0]
        return not isinstance(alone, Exception) and close(results[-1], alone)

    def _isolated(self, calls: Sequence[TransformerCall], key: str, reason: str) -> Shared:
        """Each alone. If all of them can be, it is the sharing that cannot."""
        results = self._alone(calls).results
        if any(isinstance(result, Exception) for result in results):
            return Shared(results, 1, trial=True)
        kind, doing = type(calls[0].module).__name__, "shared"
        if len(calls) == 1:
            doing = "divided"
            _remember(self._whole, key.partition(":")[0])
        log.warning("forwards of %s like these are not %s any more: %s", kind, doing, reason)
        return Shared(results, 1, most=1 if len(calls) > 1 else None, trial=True)


def _remember(forms: OrderedDict[str, None], form: str) -> None:
    forms[form] = None
    if len(forms) > MAX_PROVEN:
        forms.popitem(last=False)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or this machine, has no room for what a forward needs."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)


def free_memory() -> None:
    """Gives the device what is only kept in reserve."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def close(one: Any, other: Any) -> bool:
    """Whether two results of a forward differ by rounding only."""
    ones, others = list(tensors(one)), list(tensors(other))
    pairs = zip(ones, others, strict=False)
    return len(ones) == len(others) and all(a.shape == b.shape and _near(a, b) for a, b in pairs)


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    tolerance = TOLERANCE.get(one.dtype, TOLERANCE_HALF)
    length = torch.linalg.vector_norm(other.double())
    apart = torch.linalg.vector_norm(one.double() - other.double())
    return bool(apart <= tolerance * length) or not bool(length.isfinite())
