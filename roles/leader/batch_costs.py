"""What forwards cost when requests share them, learned from those that ran. Pure.

No torch, no clock: the scheduler tells it what was measured, and asks how many to put together.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

from roles.calls import Measured

MAX_FORMS = 256  # the least recently used are forgotten
MEASURES = 7  # of each batch size; their median counts
ENOUGH = 2  # measures before a size is judged
GAIN = 0.95  # together has to cost less than this share of alone, for each request
EXPLORE_EVERY = 64  # decisions; then the size that was not tried for longest is tried again
RELAX_AFTER = 1000  # decisions at a ceiling, after which twice as many are tried


@dataclass(frozen=True)
class Line:
    """Who waits for the ranks: `calls` with the key in question, `branches` of them to a request,
    and `behind` requests besides."""

    calls: int
    branches: int = 1
    behind: int = 0

    def share(self, size: int) -> float:
        """What a request's seconds count, in the sum of all latencies, if so many calls share a
        forward: the half of N + k + 2·W."""
        requests = self.calls / self.branches
        together = max(1.0, size / self.branches)
        return (requests + together) / 2 + self.behind


@dataclass
class _Size:
    """Forwards of one size: seconds of the latest, and the decision that chose it last."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MEASURES))
    chosen: int = 0

    @property
    def judged(self) -> bool:
        return len(self.seconds) >= ENOUGH

    def each(self, size: int) -> float:
        """Seconds for each request."""
        return median(self.seconds) / size


@dataclass
class _Form:
    sizes: dict[int, _Size] = field(default_factory=dict)
    ceiling: int | None = None
    held: int = 0  # decisions since the ceiling was learned
    decisions: int = 0


class BatchCosts:
    """How many requests of a key should share a forward.

    Where the overhead of a forward dominates, eight requests together cost hardly more than one;
    where arithmetic does, they cost eight times as much, and taking turns is fairer. So each size
    that comes up is tried twice, and from then on the one is chosen that costs each request the
    least. Now and then another one is tried again, because machines change their speed.

    Any gain is throughput; but whoever goes first ends later for those that it takes along. So,
    where the first shall be done soon (`prompt`), the size is chosen with which the sum of the
    latencies is the least. Of N requests with as much before them that run k at a time, e seconds
    for each, the groups end after k·e, 2k·e, …, N·e, on average after e·(N + k) / 2; and each of W
    others that wait behind them, after all N·e. So e·(N + k + 2·W) is to be small: two requests
    share if together they cost less than one and a half; of four, two by two may be best where all
    four together have a higher throughput; and the longer the line, the more throughput counts.

    Everything is learned by form: the key without the contents of shared tensors.
    """

    def __init__(self, prompt: bool = False) -> None:
        self._prompt = prompt
        self._forms: OrderedDict[str, _Form] = OrderedDict()

    def learn(self, measured: Measured) -> None:
        """Takes note of what ran."""
        form = self._form(measured.key)
        if measured.seconds is not None:
            form.sizes.setdefault(measured.size, _Size()).seconds.append(measured.seconds)
        if measured.most is not None:
            form.ceiling, form.held = measured.most, 0
            for size in [size for size in form.sizes if size > measured.most]:
                del form.sizes[size]

    def size(self, key: str, ready: int, line: Line | None = None) -> int:
        """How many of `ready` calls with this key share the next forward: 1 to `ready`. `line`: who
        waits besides; None: they are requests of one call each, and nobody else."""
        form = self._form(key)
        form.decisions += 1
        most = self._most(form, ready)
        if most == 1:
            return 1
        size = self._pick(form, most, line or Line(ready))
        form.sizes.setdefault(size, _Size()).chosen = form.decisions
        return size

    def __len__(self) -> int:
        return len(self._forms)

    def _most(self, form: _Form, ready: int) -> int:
        if form.ceiling is None or ready <= form.ceiling:
            return ready
        form.held += 1
        if form.ceiling > 1 and form.held >= RELAX_AFTER:  # there may be more memory now
            form.ceiling, form.held = 2 * form.ceiling, 0
        return min(ready, form.ceiling)

    def _pick(self, form: _Form, most: int, line: Line) -> int:
        tried = self._tried(most)
        for size in tried:
            if not form.sizes.setdefault(size, _Size()).judged:
                return size
        if form.decisions % EXPLORE_EVERY == 0:
            return min(tried, key=lambda size: form.sizes[size].chosen)
        judged = [size for size, it in form.sizes.items() if 1 < size <= most and it.judged]

        def cost(size: int) -> float:
            each = form.sizes[size].each(size)
            return each * line.share(size) if self._prompt else each

        best = min(judged, key=cost)
        pays = cost(best) <= (1.0 if self._prompt else GAIN) * cost(1)
        return best if pays else 1

    def _tried(self, most: int) -> list[int]:
        """Sizes that are worth a try: the ends; with `prompt` those in between too, by doubling."""
        doubled = [1 << power for power in range(1, most.bit_length()) if 1 << power < most]
        return [1, *(doubled if self._prompt else ()), most]

    def _form(self, key: str) -> _Form:
        name = key.partition(":")[0]
        form = self._forms.setdefault(name, _Form())
        self._forms.move_to_end(name)
        if len(self._forms) > MAX_FORMS:
            self._forms.popitem(last=False)
        return form
