"""How the ranks of an instance came to their end, and what it took."""

from typing import Literal

from transfer.codec import Record

By = Literal["itself", "request", "SIGTERM", "SIGKILL", "nothing"]
_TOOK: dict[By, str] = {
    "SIGTERM": "had to be terminated",
    "SIGKILL": "had to be killed",
    "nothing": "does not end, though it was killed",
}


class RankEnd(Record, frozen=True):
    """`by`: what ended the process. itself: it had ended before anybody asked; request: it was
    asked, and did; nothing: it is still there. `how`: what the kernel said of it, "exited with
    code 0"."""

    rank: int
    pid: int
    by: By
    how: str = ""

    def __str__(self) -> str:
        took = _TOOK.get(self.by, self.how)
        return f"rank {self.rank} (pid {self.pid}) {took}"


class PoolEnd(Record, frozen=True):
    """What the closing of a pool came to, and how many seconds it took. `asked`: its ranks were
    asked to end first; if not, they were killed at once, on purpose."""

    ranks: list[RankEnd]
    asked: bool
    seconds: float

    @property
    def state(self) -> Literal["closed", "failed"]:
        """failed: a process is still there."""
        return "failed" if any(rank.by == "nothing" for rank in self.ranks) else "closed"

    @property
    def forced(self) -> list[RankEnd]:
        """Those that did not end because they were asked to."""
        took = ("SIGTERM", "SIGKILL") if self.asked else ()
        return [rank for rank in self.ranks if rank.by in (*took, "nothing")]

    @property
    def killed(self) -> bool:
        """A rank that was asked first had to be killed."""
        return any(rank.by == "SIGKILL" for rank in self.forced)

    def __str__(self) -> str:
        """For people: what it had to do beyond asking."""
        return "; ".join(map(str, self.forced)) or "every rank has ended"
