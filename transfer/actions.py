"""What an operator may ask of instances, `POST /v1/cluster/rpc`: each method and its answer.

The same Struct goes from the front door to the orchestrator, to the leaders, and to every rank.
Units: bytes, seconds.
"""

from transfer.codec import Record

# ---------------------------------------------------------------- what is asked


class Health(Record, frozen=True, tag="health"):
    """How a rank is. One that computed nothing lately tests itself first."""


Action = Health

METHODS: dict[str, type[Action]] = {"health": Health}
"""By name, as on the wire and in HTTP."""

# ---------------------------------------------------------------- what is answered


class HealthReport(Record, frozen=True, tag="health"):
    """`computed_s`: so long ago it last computed for a request; None: never. `tested`: it computed
    nothing lately, so it did for this answer, and rightly. `requests`: in its memory.
    `host_bytes`: of its process; `device_bytes`: allocated on its device, of `device_total_bytes`;
    None on a CPU."""

    device: str
    computed_s: float | None
    tested: bool
    requests: int
    host_bytes: int
    device_bytes: int | None = None
    device_total_bytes: int | None = None


Told = HealthReport


def method_of(action: Action) -> str:
    """The name of its method."""
    return next(name for name, kind in METHODS.items() if isinstance(action, kind))
