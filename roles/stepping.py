"""A turn of the denoiser: steps of one request, or of several that share their forwards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roles.calls import Measured
from roles.split.program import Denoising, TransformerCall
from roles.split.together import Together


class Stepped(Protocol):
    """A request of the runner, as far as it is needed here."""

    @property
    def denoising(self) -> Denoising | None: ...

    @property
    def batch_key(self) -> str | None:
        """What its pending forward may be shared with; None: nothing."""

    @property
    def stops(self) -> bool:
        """Whether its progress is waited for: a preview is due."""


@dataclass
class Turn:
    """What a turn did: the errors by request, in the order in which the requests were given, the
    seconds that it took, and what the leader may learn of it."""

    errors: list[Exception | None]
    seconds: float = 0.0
    measured: Measured | None = None
    fastest: dict[int, float] = field(default_factory=dict)  # seconds of a step, by batch size


class Stepper:
    """Takes step after step of a group of requests for `slice_s` seconds, one at least.

    A turn ends early when something else is `wanted`, when one of the requests ends or a preview of
    it is due, and when they cannot share their next forward. `settle` waits for a device that works
    on after its calls.
    """

    def __init__(
        self, settle: Callable[[], None], slice_s: float, wanted: Callable[[], bool]
    ) -> None:
        self._settle = settle
        self._slice_s = slice_s
        self._wanted = wanted
        self._together = Together()

    def take(self, group: Sequence[Stepped]) -> Turn:
        """Never raises: what goes wrong is an error of a request."""
        turn = Turn([None] * len(group))
        began = time.perf_counter()
        key = group[0].batch_key
        most = None
        while True:
            before = turn.seconds
            size, limit, trial = self._step(group, turn)
            turn.seconds = time.perf_counter() - began
            most = limit or most
            if not trial and not any(turn.errors):
                step_s = turn.seconds - before
                turn.fastest[size] = min(step_s, turn.fastest.get(size, step_s))
            if turn.seconds >= self._slice_s or self._wanted() or not _go_on(group, turn, most):
                break
        turn.measured = _measured(key, len(group), turn, most)
        return turn

    def _step(self, group: Sequence[Stepped], turn: Turn) -> tuple[int, int | None, bool]:
        """One step of each: (requests in a forward, at most so many at a time, a trial)."""
        calls = [_pending(each) for each in group]
        keys = {each.batch_key for each in group} if len(group) > 1 else set()
        if len(keys) == 1 and (key := keys.pop()) is not None:
            shared = self._together.run(calls, key)
            size, most, trial, results = shared.size, shared.most, shared.trial, shared.results
        else:
            results = [self._together.run([call], "").results[0] for call in calls]
            size, most, trial = 1, None, len(calls) > 1
        turn.errors = [_resumed(each, it) for each, it in zip(group, results, strict=True)]
        try:
            self._settle()
        except Exception as error:  # of a device that computed for all of them
            turn.errors = [own or error for own in turn.errors]
        return size, most, trial


def _pending(each: Stepped) -> TransformerCall:
    assert each.denoising is not None, "a step of a request that has none"
    assert each.denoising.pending is not None, "a step of a request that has ended"
    return each.denoising.pending


def _resumed(each: Stepped, result: object) -> Exception | None:
    """Hands over what the forward gave; the error if it, or the pipeline, raised one."""
    if isinstance(result, Exception):
        return result
    try:
        assert each.denoising is not None
        each.denoising.resume(result)
    except Exception as error:
        return error
    return None


def _go_on(group: Sequence[Stepped], turn: Turn, most: int | None) -> bool:
    if any(turn.errors) or any(e.denoising is None or not e.denoising.pending for e in group):
        return False
    if any(each.stops for each in group):
        return False
    if len(group) == 1:
        return True
    # once something was learned, the leader makes other groups
    return most is None and len({each.batch_key for each in group}) == 1


def _measured(key: str | None, size: int, turn: Turn, most: int | None) -> Measured | None:
    if key is None or not (turn.fastest.get(size) or most):
        return None
    return Measured(key, size, turn.fastest.get(size), most)
