"""The desk's settings. Nothing in them changes while it runs."""

from transfer.messages import Record


class Limits(Record, frozen=True):
    """Bounds. Seconds, bytes, counts.

    `unfinished`: jobs of each model that may be under way; beyond them new ones are refused.
    `ahead`: pictures of jobs that may wait inside the core at once, of each model. The others wait
    at the desk, so that a client who waits for its reply is not behind thousands of jobs.
    `ttl_s`, `nbytes`, `finished`: finished jobs are forgotten when they are older than this, when
    the stored files of all are larger than this, or when there are more of them than this; the
    oldest first, and never the latest one.
    `wait_s`: a job that is not over after so long (within one life) fails.
    `runs`: how often a picture is computed because its file was lost before it was stored.
    `stores`, `store_again_s`: how often storing is tried when the storage fails, and how long
    after the first failure; the pauses double.
    `submit_again_s`: how long requests are held back after the core refused one.
    `write_again_s`, `write_again_most_s`: the same after the journal failed; the pauses double up
    to the latter.
    """

    unfinished: int = 10_000
    ahead: int = 64
    ttl_s: float = 86_400.0
    nbytes: int = 10 << 30
    finished: int = 50_000
    wait_s: float = 86_400.0
    runs: int = 3
    stores: int = 3
    store_again_s: float = 0.5
    submit_again_s: float = 0.25
    write_again_s: float = 0.5
    write_again_most_s: float = 15.0
