"""What an instance tells of its own work: seconds, and how its cache stands."""

from transfer.codec import Record


class StageReport(Record, frozen=True):
    """Where an instance spent its seconds on one stage of one request.

    `busy_s`: how long its ranks were busy with it, where a forward that k requests shared counts
    1/k for each; `compute_s` counts it in full.
    """

    wait_s: float = 0.0  # accepted, but the ranks were busy with others
    read_s: float = 0.0  # payload out of the slots
    compute_s: float = 0.0
    write_s: float = 0.0  # payload into the outbox and into the receiver's slots
    steps: int = 0
    busy_s: float = 0.0


class CacheReport(Record, frozen=True):
    """A cache as it stands. Hits and misses since its rank started; bytes of its device."""

    hits: int
    misses: int
    entries: int
    nbytes: int
    limit: int
