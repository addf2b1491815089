"""Which finished jobs are forgotten, and when."""

from collections import OrderedDict

from orchestrator.jobs.limits import Limits


class Retention:
    """The finished jobs that are kept, in the order in which they finished."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[str, tuple[float, int]] = OrderedDict()  # (finished at, bytes)
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, job: str, finished_at: float, nbytes: int) -> None:
        self._kept[job] = (finished_at, nbytes)
        self.nbytes += nbytes

    def drop(self, job: str) -> bool:
        """Takes this one out before its time. False: it is not kept any more."""
        kept = self._kept.pop(job, None)
        if kept is not None:
            self.nbytes -= kept[1]
        return kept is not None

    def take(self, now: float) -> str | None:
        """Takes out the next job whose time is over; None if there is none."""
        if not self._kept:
            return None
        job, (finished_at, nbytes) = next(iter(self._kept.items()))
        if finished_at + self._limits.ttl_s > now and not self._crowded:
            return None
        del self._kept[job]
        self.nbytes -= nbytes
        return job

    @property
    def _crowded(self) -> bool:
        if len(self._kept) < 2:
            return False  # the latest result is for somebody who has hardly had time to fetch it
        return self.nbytes > self._limits.nbytes or len(self._kept) > self._limits.finished
