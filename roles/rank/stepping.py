"""A turn of the denoiser: steps of one request, or of several that share their forwards.

A pipeline that stands at the door waits for one forward, or for several branches of guidance,
which may share with each other and with those of other requests. A step of its loop may have
several such waits. A turn ends between two steps: requests that paused at different places within
one would never meet at the same kind of forward again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from roles.calls import Measured
from roles.split.denoising.together import Shared, Together
from roles.split.encoding.tokens import TokenCall
from roles.split.encoding.written import WrittenTogether
from roles.split.parallel.across import Across
from roles.split.program import Denoising, TransformerCall

if TYPE_CHECKING:
    from roles.rank.world import World
    from roles.split.encoding.generation import Generation

_Call = TransformerCall | TokenCall

MAX_FORWARDS = 8  # of a turn without the end of a step: there are pipelines that count none


class Stepped(Protocol):
    """A request of the runner, as far as it is needed here."""

    @property
    def denoising(self) -> "Denoising | Generation | None": ...

    @property
    def batch_key(self) -> str | None:
        """What its pending forwards may be shared with; None: nothing."""

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
    fastest: dict[int, float] = field(default_factory=dict)  # seconds of a forward, by its calls


@dataclass
class _Ran:
    """The forwards that a group waited for: a result, or an exception, for each call.

    `size`: calls in each forward. `most`: no more than so many at a time. `clean`: whether the time
    that it took tells anything.
    """

    results: list[Any]
    size: int
    most: int | None = None
    clean: bool = True


class Stepper:
    """Takes step after step of a group of requests for `slice_s` seconds, one at least.

    A turn ends early when something else is `wanted`, when one of the requests ends or a preview of
    it is due, and when they cannot share their next forward. `settle` waits for a device that works
    on after its calls. `passed` hears of each step after which the turn goes on. In a `world` of
    several ranks it ends for all of them when it ends for one.
    """

    def __init__(
        self,
        settle: Callable[[], None],
        slice_s: float,
        wanted: Callable[[], bool],
        passed: Callable[[Sequence[Any]], None] | None = None,
        world: "World | None" = None,
    ) -> None:
        self._settle = settle
        self._slice_s = slice_s
        self._wanted = wanted
        self._passed = passed
        self._world = world
        self._together = Together(Across(world) if world else None)
        self._written = WrittenTogether()

    def take(self, group: Sequence[Stepped], share: int = 0) -> Turn:
        """Never raises: what goes wrong is an error of a request. `share`: so many calls go into
        one forward at most; 0: as many as there are."""
        turn = Turn([None] * len(group))
        began = time.perf_counter()
        key = group[0].batch_key
        planned = _size(len(_calls(group)), share)
        amid = 0  # forwards since the end of a step
        most = None
        while True:
            before, same, count = turn.seconds, group[0].batch_key == key, len(_calls(group))
            steps = _steps(group)
            ran = self._advance(group, share, turn)
            turn.seconds = time.perf_counter() - began
            most = ran.most or most
            if ran.clean and same and count % ran.size == 0 and not any(turn.errors):
                forward_s = (turn.seconds - before) * ran.size / count
                turn.fastest[ran.size] = min(forward_s, turn.fastest.get(ran.size, forward_s))
            amid = amid + 1 if _steps(group) == steps else 0
            if not self._goes_on(_go_on(group, turn, most) and not self._is_over(turn, amid)):
                break
            if self._passed is not None and not amid:
                self._passed(group)
        turn.measured = _measured(key, planned, turn, most)
        return turn

    def _is_over(self, turn: Turn, amid: int) -> bool:
        return amid % MAX_FORWARDS == 0 and (turn.seconds >= self._slice_s or self._wanted())

    def _goes_on(self, mine: bool) -> bool:
        """A rank that goes on alone would wait for the others in its next forward."""
        return mine if self._world is None else self._world.all(mine)

    def _advance(self, group: Sequence[Stepped], share: int, turn: Turn) -> _Ran:
        """Each to the next wait at the door."""
        counts = [len(_pending(each)) for each in group]
        keys = {each.batch_key for each in group}
        key = group[0].batch_key if len(keys) == 1 else None
        ran = self._run(_calls(group), key, share)
        results = iter(ran.results)
        own = [[next(results) for _ in range(count)] for count in counts]
        turn.errors = [_resumed(each, its) for each, its in zip(group, own, strict=True)]
        try:
            self._settle()
        except Exception as error:  # of a device that computed for all of them
            turn.errors = [own or error for own in turn.errors]
        return ran

    def _run(self, calls: list[_Call], key: str | None, share: int) -> _Ran:
        size = 1 if key is None else _size(len(calls), share)
        parts = [calls[first : first + size] for first in range(0, len(calls), size)]
        told = [self._forward(part, key or "") for part in parts]
        return _Ran(
            results=[result for shared in told for result in shared.results],
            size=max(shared.size for shared in told),
            most=min((shared.most for shared in told if shared.most), default=None),
            clean=not any(shared.trial for shared in told),
        )

    def _forward(self, calls: list[_Call], key: str) -> Shared:
        if isinstance(calls[0], TokenCall):
            return self._written.run(calls, key)
        return self._together.run(cast(list[TransformerCall], calls), key)


def _steps(group: Sequence[Stepped]) -> list[int]:
    """How many steps each has completed."""
    return [each.denoising.step for each in group if each.denoising is not None]


def _size(count: int, share: int) -> int:
    return min(share or count, count)


def _calls(group: Sequence[Stepped]) -> list[_Call]:
    return [call for each in group for call in _pending(each)]


def _pending(each: Stepped) -> tuple[_Call, ...]:
    assert each.denoising is not None, "a step of a request that has none"
    assert each.denoising.pending, "a step of a request that has ended"
    return each.denoising.pending


def _resumed(each: Stepped, results: list[Any]) -> Exception | None:
    """Hands over what the forwards gave; the first error if they, or the pipeline, raised one."""
    for result in results:
        if isinstance(result, Exception):
            return result
    try:
        assert each.denoising is not None
        each.denoising.resume(results)
    except Exception as error:
        return error
    return None


def _go_on(group: Sequence[Stepped], turn: Turn, most: int | None) -> bool:
    if any(turn.errors) or any(e.denoising is None or not e.denoising.pending for e in group):
        return False
    if any(each.stops for each in group):
        return False
    # once something was learned, the leader makes other groups
    if most is not None:
        return False
    return len(group) == 1 or len({each.batch_key for each in group}) == 1


def _measured(key: str | None, size: int, turn: Turn, most: int | None) -> Measured | None:
    if key is None or not (turn.fastest.get(size) or most):
        return None
    return Measured(key, size, turn.fastest.get(size), most)
