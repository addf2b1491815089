"""The machine's settings. Nothing in them changes while it runs."""

from typing import Literal

from transfer.messages import Record, Role


class Config(Record, frozen=True):
    """`declared`: endpoints per role whose places are fixed beforehand.

    An instance is lost after `missed_beats` of `heartbeat_s` seconds without a word from it.
    `max_queue` requests may wait for the first role of their model's route. Grants count up from
    `first_generation`: the loop draws a new one at each start, so that a payload that was granted
    by an earlier orchestrator never matches. An Abort that is not answered is sent again every
    `abort_again_s` seconds. `max_pushes` grants at most are tried for one staged payload.
    A request is tried `max_attempts` times at most; from the second retry on it waits `backoff_s`
    seconds first, then twice as long each time, up to `max_backoff_s`; so do grants when a write
    failed and there is no other receiver. Attempts that were lost because a rank died at work on
    another request do not count, `max_spared` of them. A request looks for another instance than
    the one at which it failed for `patience_s` seconds. An attempt has failed when its instance
    gives no sign of progress for `stall_s` seconds.
    `schedule`: requests that wait for a role go in the order in which they came (fifo), or the one
    with the fewest predicted seconds first, with ageing (sjf).
    `uploads_port`: where instances can read what clients uploaded (`Work.uploads_port`).
    `default_model`: what a request means that names none. So many models as `max_models` may have
    instances at a time; of `max_known_models` it is remembered what they were.
    The other bounds keep what strangers register from growing us without limit.
    """

    policy: str = "least_backlog"
    declared: dict[Role, list[str]] = {}  # noqa: RUF012  # msgspec copies it
    heartbeat_s: float = 1.0
    missed_beats: int = 4
    max_queue: int = 1000
    abort_again_s: float = 5.0
    max_pushes: int = 8
    max_attempts: int = 3
    max_spared: int = 16
    backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    patience_s: float = 30.0
    stall_s: float = 300.0
    first_generation: int = 1
    max_instances: int = 20_000
    max_slots: int = 65_536
    max_capacity: int = 65_536
    max_places: int = 1_000  # of gone instances, per role
    max_past: int = 65_536  # ids and names of the past
    schedule: Literal["fifo", "sjf"] = "sjf"
    uploads_port: int | None = None
    default_model: str | None = None
    max_models: int = 64
    max_known_models: int = 64
