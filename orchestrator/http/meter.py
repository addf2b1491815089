"""How often somebody may ask. Pure: the clock is an argument, so a jump of the wall clock is none.

A token bucket, kept as one number per caller (the generic cell rate algorithm, ITU-T I.371): a rate
of 60/minute lets 60 requests come at once, and then one every second.
"""

import math
import re

import msgspec

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
MOST_CALLERS = 100_000  # that are remembered at once; a caller that was quiet long enough is not
_RATE = re.compile(r"(\d{1,9})\s*/\s*(second|minute|hour|day)")


class Rate(msgspec.Struct, frozen=True):
    """`amount` requests in `seconds`."""

    amount: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Of "60/minute". ValueError, with a message for the user, if it is something else."""
        found = _RATE.fullmatch(text.strip())
        if found is None or int(found[1]) == 0:
            units = "|".join(SECONDS)
            raise ValueError(f"{text!r} is no rate; write N/{units}, for example 60/minute")
        return cls(int(found[1]), SECONDS[found[2]])


class Verdict(msgspec.Struct, frozen=True):
    """`remaining` requests may follow at once; after `reset_s` seconds without any, all of them.
    A refused one may come again after `retry_s`."""

    allowed: bool
    remaining: int
    reset_s: float
    retry_s: float = 0.0


class Meter:
    """Counts one rate for every caller.

    For each it keeps when the bucket will be full again. The table is swept as it grows; if more
    than `most` callers have something to remember, those that are nearest to full are forgotten.
    """

    def __init__(self, rate: Rate, most: int = MOST_CALLERS) -> None:
        self._rate = rate
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._full_at)

    @property
    def limit(self) -> int:
        return self._rate.amount

    def ask(self, caller: str, now: float) -> Verdict:
        """One request of `caller` at `now` (seconds of a clock that never goes back)."""
        each = self._rate.seconds / self._rate.amount
        full_at = max(self._full_at.get(caller, now), now) + each
        missing = full_at - now - self._rate.seconds
        if missing > 1e-9:
            return Verdict(False, 0, full_at - each - now, retry_s=missing)
        self._full_at[caller] = full_at
        if len(self._full_at) > self._most:
            self._sweep(now)
        return Verdict(True, math.floor(1e-9 - missing / each), full_at - now)

    def _sweep(self, now: float) -> None:
        kept = {caller: at for caller, at in self._full_at.items() if at > now}
        busiest = sorted(kept.items(), key=lambda each: each[1])[-self._most // 2 :]
        self._full_at = dict(busiest)
