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
PROMPT_GAIN = 0.75  # the same where the first shall be done soon: see `BatchCosts`
EXPLORE_EVERY = 64  # decisions; then the size that was not tried for longest is tried again
RELAX_AFTER = 1000  # decisions at a ceiling, after which twice as many are tried


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

    `gain`: what together may cost, as a share of alone, for each request. Any gain is throughput;
    but whoever goes first ends later for those that it takes along. With two that cost less than
    one and a half, the sum of their latencies falls all the same, hence `PROMPT_GAIN`.

    Everything is learned by form: the key without the contents of shared tensors.
    """

    def __init__(self, gain: float = GAIN) -> None:
        self._gain = gain
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

    def size(self, key: str, ready: int) -> int:
        """How many of `ready` requests with this key share the next forward: 1 to `ready`."""
        form = self._form(key)
        form.decisions += 1
        most = self._most(form, ready)
        if most == 1:
            return 1
        size = self._pick(form, most)
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

    def _pick(self, form: _Form, most: int) -> int:
        for size in (1, most):
            if not form.sizes.setdefault(size, _Size()).judged:
                return size
        if form.decisions % EXPLORE_EVERY == 0:
            return min((1, most), key=lambda size: form.sizes[size].chosen)
        judged = [size for size, it in form.sizes.items() if 1 < size <= most and it.judged]
        best = min(judged, key=lambda size: form.sizes[size].each(size))
        pays = form.sizes[best].each(best) <= self._gain * form.sizes[1].each(1)
        return best if pays else 1

    def _form(self, key: str) -> _Form:
        name = key.partition(":")[0]
        form = self._forms.setdefault(name, _Form())
        self._forms.move_to_end(name)
        if len(self._forms) > MAX_FORMS:
            self._forms.popitem(last=False)
        return form
