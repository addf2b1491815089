"""How many jobs of each model are under way, and when there will be room for another."""

from collections import Counter, deque

from orchestrator.jobs.limits import Limits

RECENT = 64
SLOWEST_PACE_S = 60.0


class Unfinished:
    """Each model has room for `limits.unfinished` jobs of its own, so that a flood of one turns no
    other's away. Nothing is kept of a model that has none."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.unfinished
        self._jobs: Counter[str] = Counter()
        self._ends: dict[str, deque[float]] = {}  # when the latest ones ended

    def __len__(self) -> int:
        return self._jobs.total()

    def full(self, model: str) -> bool:
        return self._jobs[model] >= self._most

    def begin(self, model: str) -> None:
        self._jobs[model] += 1

    def drop(self, model: str) -> None:
        """One that was never accepted."""
        self._jobs[model] -= 1
        if not self._jobs[model]:
            del self._jobs[model]
            self._ends.pop(model, None)

    def end(self, model: str, now: float) -> None:
        self._ends.setdefault(model, deque(maxlen=RECENT)).append(now)
        self.drop(model)

    def pace(self, model: str) -> float:
        """Seconds until another of its jobs will have ended, from the pace of the latest."""
        ends = self._ends.get(model)
        if ends is None or len(ends) < 2:
            return 1.0
        return min(SLOWEST_PACE_S, max(1.0, (ends[-1] - ends[0]) / (len(ends) - 1)))
