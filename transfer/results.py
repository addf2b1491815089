"""What the ranks of an instance made of one call: a result for each, whatever happened."""

from typing import Generic, Literal, TypeVar

from transfer.codec import Record

V = TypeVar("V")
Kind = Literal["raised", "died", "silent", "closed", "unsupported"]

ECHO = "RankFailed"  # the type of a rank's error that only repeats another rank's
_ORDER: dict[Kind, int] = {"raised": 0, "died": 0, "unsupported": 1, "silent": 2, "closed": 3}


class RankError(Record, frozen=True):
    """Why a rank did not do a call.

    raised: its code did, see `traceback`. died: the process ended before it answered. silent: no
    answer by the deadline. closed: it was not asked, because the pool does not run. unsupported:
    this role or model does not do such a thing; the message is the reason.
    """

    kind: Kind
    type: str
    message: str
    traceback: str | None = None


class RankResult(Record, Generic[V], frozen=True):
    """What one rank made of one call. `seconds`: of its work; of the wait, if it gave no answer."""

    rank: int
    pid: int
    ok: bool
    value: V | None = None
    error: RankError | None = None
    seconds: float = 0.0
    host: str = ""

    def __str__(self) -> str:
        """In one line: rank 1 (pid 4242) raised ValueError: …"""
        who = f"rank {self.rank} (pid {self.pid})"
        if self.error is None:
            return f"{who} is fine"
        if self.error.kind == "raised":
            return f"{who} raised {self.error.type}: {self.error.message}"
        return f"{who} {self.error.message}"


class PoolResult(Record, Generic[V], frozen=True):
    """One `RankResult` per rank, in rank order. `ok` only if every rank did the call."""

    results: tuple[RankResult[V], ...]

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    @property
    def first(self) -> RankResult[V]:
        """Rank 0's result, whose value speaks for all where all are the same."""
        return self.results[0]

    @property
    def failures(self) -> list[RankResult[V]]:
        """The ranks that failed, those that are the reason for the others first."""
        failed = [(_ORDER[r.error.kind], r.error.type == ECHO, r) for r in self.results if r.error]
        return [result for *_, result in sorted(failed, key=lambda each: each[:2])]

    @property
    def lost(self) -> bool:
        """Whether ranks died or do not answer, so that none of them can be relied on."""
        answers = ("raised", "unsupported")
        return any(r.error is not None and r.error.kind not in answers for r in self.results)

    def __str__(self) -> str:
        """For people: the ranks that failed, and how."""
        return "; ".join(map(str, self.failures)) or "ok"
