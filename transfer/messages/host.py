"""Which processes an instance is."""

from transfer.codec import Record
from transfer.messages.words import RankState


class RankInfo(Record, frozen=True):
    rank: int
    pid: int
    state: RankState
    device: str = "cpu"
    host: str = ""


class HostInfo(Record, frozen=True):
    """Which process this is: enough to know, on the same host, whether it still lives.

    `start_ticks`: when it began, in clock ticks since boot, so that setting the clock changes
    nothing (`transfer.processes`).
    """

    hostname: str
    boot_id: str
    pid: int
    start_ticks: int
