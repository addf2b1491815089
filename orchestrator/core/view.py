"""The cluster as people see it: the JSON of GET /v1/cluster."""

from typing import TYPE_CHECKING, Literal

from orchestrator.core.attempts import State
from orchestrator.core.instances import Instance, Post
from transfer.messages import CacheReport, InstanceState, ModelInfo, RankState, Record, Role

if TYPE_CHECKING:
    from orchestrator.core.books import Books

Runner = Literal["diffusion", "autoregressive"]


class SlotsView(Record, frozen=True):
    total: int
    leased: int
    quarantined: int


class RankView(Record, frozen=True):
    rank: int
    pid: int
    state: RankState


class InstanceView(Record, frozen=True):
    """One instance in one role. `order` is its place among the role's registered endpoints;
    `capacity` and `in_flight` count requests of this role, of which each class has the whole
    capacity for itself. `backlog_s`: predicted seconds of all that is there or on its way.
    `encodings`: the cache of an encoder, as of its last heartbeat; None where there is none, or
    nothing was encoded yet. `warmed`: of one that warms up, forwards that are behind it, and how
    many there are. `healthy`: its ranks computed something lately, or have passed a self-test; None
    of one that sleeps: it is not tested. `runner`: how its ranks run the model: `autoregressive` is
    that of encoders that may write something first, token by token."""

    name: str
    endpoint: str
    epoch: int
    state: InstanceState
    order: int
    capacity: int
    in_flight: int
    slots: SlotsView
    ranks: list[RankView]
    host: str
    backlog_s: float = 0.0
    encodings: CacheReport | None = None
    warmed: tuple[int, int] | None = None
    healthy: bool | None = True
    runner: Runner = "diffusion"


class RequestsView(Record, frozen=True):
    """`queued` and `running` are now, the others since the start."""

    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int


class ChangeView(Record, frozen=True):
    """An instance came into this state `ago_s` seconds ago; `cause` is for people."""

    name: str
    epoch: int
    state: InstanceState
    cause: str
    ago_s: float


class ClusterView(Record, frozen=True):
    """`history`: the latest changes of instances' states, the oldest first, those of instances that
    have left too."""

    roles: dict[str, list[InstanceView]]
    requests: RequestsView
    history: list[ChangeView] = []  # noqa: RUF012  # msgspec copies it


def look(books: "Books") -> ClusterView:
    """Everything, as it is now. Roles that have no instance are there, and empty."""
    ledger = books.ledger
    shown = {role: [_instance(p) for p in r.posts()] for role, r in books.registry.rosters.items()}
    requests = RequestsView(
        queued=ledger.queued,
        running=len(ledger.active) - ledger.queued,
        completed=ledger.ended[State.COMPLETED],
        failed=ledger.ended[State.FAILED],
        cancelled=ledger.ended[State.CANCELLED],
    )
    history = [
        ChangeView(x.name, x.epoch, x.state, x.cause, round(books.now - x.at, 3))
        for x in books.history.changes
    ]
    return ClusterView({str(role): posts for role, posts in shown.items()}, requests, history)


def _instance(post: Post) -> InstanceView:
    instance, slots = post.instance, post.instance.slots
    return InstanceView(
        name=instance.name,
        endpoint=instance.endpoint,
        epoch=instance.epoch,
        state=instance.state,
        order=post.order,
        capacity=post.capacity,
        in_flight=len(post.working) if instance.live else 0,
        slots=SlotsView(slots.total, slots.leased, slots.quarantined),
        ranks=[RankView(rank.rank, rank.pid, rank.state) for rank in instance.ranks],
        host=instance.info.host.hostname,
        backlog_s=round(post.backlog("low"), 3) if instance.live else 0.0,
        encodings=instance.encodings if post.role == "encoder" else None,
        warmed=instance.warmed if instance.live else None,
        healthy=_healthy(instance),
        runner=_runner(post.role, instance.info.model),
    )


def _healthy(instance: Instance) -> bool | None:
    if instance.state == "sleeping":
        return None
    return instance.healthy and instance.state in ("ready", "draining")


def _runner(role: Role, model: ModelInfo) -> Runner:
    return "autoregressive" if role == "encoder" and model.generates else "diffusion"
