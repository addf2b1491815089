"""The cluster as people see it: the JSON of GET /v1/cluster."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from orchestrator.core.attempts import State
from orchestrator.core.instances import Instance, Post
from orchestrator.core.models import Model
from orchestrator.core.weights import OWN
from transfer.messages import (
    ROLES,
    CacheReport,
    InstanceState,
    ModelInfo,
    RankState,
    Record,
    Role,
)

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
    host: str = ""


class WeightsView(Record, frozen=True):
    """What a component computes with, where that is not the model's own: since `update_weights`.
    `path`: the folder that it was read from; None if that is not known (any more)."""

    component: str
    digest: str
    path: str | None = None


class InstanceView(Record, frozen=True):
    """One instance in one role. `order` is its place among the role's registered endpoints;
    `capacity` and `in_flight` count requests of this role, of which each class has the whole
    capacity for itself. `backlog_s`: predicted seconds of all that is there or on its way.
    `encodings`: the cache of an encoder, as of its last heartbeat; None where there is none, or
    nothing was encoded yet. `warmed`: of one that warms up, forwards that are behind it, and how
    many there are. `healthy`: its ranks computed something lately, or have passed a self-test; None
    of one that sleeps: it is not tested. `runner`: how its ranks run the model: `autoregressive` is
    that of encoders that may write something first, token by token. `weights`: of the components
    that have others than the model's own. `model`: which it serves; places are counted in each role
    of each model."""

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
    weights: list[WeightsView] = []  # noqa: RUF012  # msgspec copies it
    model: str = ""


class RequestsView(Record, frozen=True):
    """`queued` and `running` are now, the others since the start."""

    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int


class ModelView(Record, frozen=True):
    """One model: which roles of its route have no ready instance, and its requests. `ready`: there
    are none missing."""

    ready: bool
    missing: list[Role]
    requests: RequestsView


class ChangeView(Record, frozen=True):
    """An instance came into this state `ago_s` seconds ago; `cause` is for people."""

    name: str
    epoch: int
    state: InstanceState
    cause: str
    ago_s: float


class ClusterView(Record, frozen=True):
    """`history`: the latest changes of instances' states, the oldest first, those of instances that
    have left too. `models`: by name, in the order in which they first registered."""

    roles: dict[str, list[InstanceView]]
    requests: RequestsView
    history: list[ChangeView] = []  # noqa: RUF012  # msgspec copies it
    models: dict[str, ModelView] = {}  # noqa: RUF012  # msgspec copies it


def look(books: "Books") -> ClusterView:
    """Everything, as it is now. Roles that have no instance are there, and empty."""
    ledger, models = books.ledger, books.registry.models.values()
    shown = {
        role: [_instance(post) for model in models for post in model.rosters[role].posts()]
        for role in ROLES
    }
    queued = sum(model.queued for model in models)
    requests = _requests(queued, len(ledger.active), ledger.ended)
    history = [
        ChangeView(x.name, x.epoch, x.state, x.cause, round(books.now - x.at, 3))
        for x in books.history.changes
    ]
    roles = {str(role): posts for role, posts in shown.items()}
    served = {model.name: _model(model) for model in books.registry.served}
    return ClusterView(roles, requests, history, served)


def _model(model: Model) -> ModelView:
    missing = model.missing()
    return ModelView(not missing, missing, _requests(model.queued, model.active, model.ended))


def _requests(queued: int, active: int, ended: Mapping[State, int]) -> RequestsView:
    return RequestsView(
        queued=queued,
        running=active - queued,
        completed=ended[State.COMPLETED],
        failed=ended[State.FAILED],
        cancelled=ended[State.CANCELLED],
    )


def _instance(post: Post) -> InstanceView:
    instance, slots = post.instance, post.instance.slots
    host = instance.info.host.hostname
    return InstanceView(
        name=instance.name,
        endpoint=instance.endpoint,
        epoch=instance.epoch,
        state=instance.state,
        order=post.order,
        capacity=post.capacity,
        in_flight=len(post.working) if instance.live else 0,
        slots=SlotsView(slots.total, slots.leased, slots.quarantined),
        ranks=[RankView(x.rank, x.pid, x.state, x.host or host) for x in instance.ranks],
        host=host,
        backlog_s=round(post.backlog("low"), 3) if instance.live else 0.0,
        encodings=instance.encodings if post.role == "encoder" else None,
        warmed=instance.warmed if instance.live else None,
        healthy=_healthy(instance),
        runner=_runner(post.role, instance.info.model),
        weights=[_weights(instance, *x) for x in instance.weights.items() if x[1] != OWN],
        model=instance.model.name,
    )


def _weights(instance: Instance, component: str, digest: str) -> WeightsView:
    known = instance.model.weights.get(component)
    path = known.path if known is not None and known.digest == digest else None
    return WeightsView(component, digest, path)


def _healthy(instance: Instance) -> bool | None:
    if instance.state == "sleeping":
        return None
    return instance.healthy and instance.state in ("ready", "draining")


def _runner(role: Role, model: ModelInfo) -> Runner:
    return "autoregressive" if role == "encoder" and model.generates else "diffusion"
