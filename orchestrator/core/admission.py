"""Who may register, and what may be submitted."""

from orchestrator.core import dispatch
from orchestrator.core.books import Books
from orchestrator.core.commands import DuplicateId, NoRoute, Progress, QueueFull, Refusal, Reject
from orchestrator.core.events import Submit
from orchestrator.core.instances import RECEIVERS
from transfer.messages import DENOISES, SPLIT_ROUTE, ModelInfo, Register, Replaced, Role, Speed
from transfer.speed import switches

MONOLITHIC: tuple[Role, ...] = ("monolithic",)
MAX_NAME = 128
MAX_PREVIEWS = 16


def submit(books: Books, event: Submit) -> None:
    """Accepts the request, or says why not."""
    refusal = _refusal(books, event)
    if refusal is not None:
        books.count("requests_refused")
        books.commands.append(Reject(event.request, refusal))
        return
    books.count("requests_accepted")
    attempt = books.ledger.open(
        event.request,
        event.inputs,
        route(books),
        books.now,
        event.deadline_s,
        event.attempts,
        min(event.attempts, books.config.max_attempts - 1),  # one is always left
        books.forecast.works(route(books), event.inputs, books.registry.model),
    )
    if books.config.schedule == "sjf":
        attempt.request.due = books.forecast.due(attempt.request)
    attempt.request.previews = min(event.previews, MAX_PREVIEWS)
    books.ledger.queued += 1
    books.commands.append(Progress(event.request, attempt.request.tries + 1, "queued", None, 0, 0))
    dispatch.join(books, attempt)


def route(books: Books) -> tuple[Role, ...]:
    """The split route, unless only the whole pipeline in one instance is there."""
    rosters = books.registry.rosters
    if all(rosters[role].available for role in SPLIT_ROUTE):
        return SPLIT_ROUTE
    split = any(rosters[role].live for role in SPLIT_ROUTE)
    if rosters["monolithic"].available or (rosters["monolithic"].live and not split):
        return MONOLITHIC
    return SPLIT_ROUTE


def missing(books: Books) -> list[Role]:
    """The roles of the route that have no ready instance."""
    return [role for role in route(books) if not books.registry.rosters[role].available]


def asleep(books: Books) -> list[Role]:
    """Those of them that have an instance which sleeps, and could be woken."""
    live = books.registry.live.values()
    roles = {role for x in live if x.state == "sleeping" for role in x.info.roles}
    return [role for role in missing(books) if role in roles]


def _refusal(books: Books, event: Submit) -> Refusal | None:
    ledger = books.ledger
    if event.request in ledger.active:
        return DuplicateId()
    if lacking := missing(books):
        return NoRoute(lacking, asleep(books))
    first = route(books)[0]
    if ledger.queued >= books.config.max_queue:
        priority = event.inputs.priority
        room = books.registry.rosters[first].rooms(priority).now
        if ledger.lines[first].ahead_of(priority) or not room:
            return QueueFull(ledger.retry_after())
    return None


def objection(books: Books, info: Register) -> str | None:
    """Why a registration is refused; None if it is not."""
    return (
        _malformed(info)
        or _excessive(books, info)
        or _conflict(books, info)
        or _other_model(books, info)
        or _other_speed(books, info)
    )


def _malformed(info: Register) -> str | None:
    roles = set(info.roles)
    if not _presentable(info.name, MAX_NAME) or not _presentable(info.endpoint, 4 * MAX_NAME):
        return f"a name or endpoint of no use in addresses and logs: {info.name[:MAX_NAME]!r}"
    if not roles or len(roles) != len(info.roles):
        return f"roles that are missing or listed twice: {info.roles}"
    if "monolithic" in roles and len(roles) > 1:
        return f"monolithic is all roles in one and cannot be joined with others: {info.roles}"
    if any(info.capacity.get(role, 0) < 1 for role in roles):
        return f"every role needs a capacity of at least 1: {info.capacity}"
    if roles & RECEIVERS and (info.pool.slots < 1 or info.pool.slot_bytes < 1):
        return "a denoiser or decoder needs slots to receive payloads"
    if info.pool.slots < 0 or info.pool.slot_bytes < 0 or info.last_epoch < 0:
        return "negative numbers"
    return None


def _presentable(text: str, longest: int) -> bool:
    """It appears in log lines and addresses."""
    return 0 < len(text) <= longest and text.isascii() and text.isprintable() and " " not in text


def _excessive(books: Books, info: Register) -> str | None:
    config = books.config
    if info.pool.slots > config.max_slots:
        return f"{info.pool.slots} slots, {config.max_slots} allowed"
    if max(info.capacity.values()) > config.max_capacity:
        return f"a capacity of {max(info.capacity.values())}, {config.max_capacity} allowed"
    if len(books.registry.live) >= config.max_instances:
        return f"{config.max_instances} instances are registered, no more are allowed"
    return None


def _conflict(books: Books, info: Register) -> str | None:
    named = books.registry.by_name.get(info.name)
    if named is not None and named.info.incarnation != info.incarnation:
        return f"the name {info.name} belongs to a live instance at {named.endpoint}"
    there = books.registry.by_endpoint.get(info.endpoint)
    if there is not None and there is not named:
        return f"the endpoint {info.endpoint} belongs to the live instance {there.name}"
    table = books.registry.table_of(info)
    if table is not None and (table.total, table.slot_bytes) != _shape(info):
        return f"{info.name} comes back with another pool than the one it registered"
    return None


def _shape(info: Register) -> tuple[int, int]:
    return info.pool.slots, info.pool.slot_bytes


def _other_model(books: Books, info: Register) -> str | None:
    model = books.registry.model
    other = books.registry.other_than(info.name)
    if model is None or other is None or model.fingerprint == info.model.fingerprint:
        return None
    if other_components := _other_components(model, info.model):
        return (
            f"{info.name} has {', '.join(other_components)} than {other.name}: start all instances "
            "with the same --component flags"
        )
    return (
        f"{info.name} has model {info.model.name} ({info.model.fingerprint}), but {other.name} "
        f"has {model.name} ({model.fingerprint}); all instances must have the same"
    )


def _other_components(model: ModelInfo, other: ModelInfo) -> list[str]:
    """What comes from elsewhere in one of them, and not in the other, or from another place."""
    ours = {each.component: each for each in model.replaced}
    theirs = {each.component: each for each in other.replaced}
    differ = [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if _contents(ours.get(name)) != _contents(theirs.get(name))
    ]
    return [f"another {name} ({_from(theirs, name)}, not {_from(ours, name)})" for name in differ]


def _contents(replaced: Replaced | None) -> str | None:
    return replaced.fingerprint if replaced else None


def _from(replaced: dict[str, Replaced], name: str) -> str:
    return f"that of {replaced[name].source}" if name in replaced else "the model's own"


def _other_speed(books: Books, info: Register) -> str | None:
    """One request would have other pixels than the next, by the chance of who took it."""
    if not DENOISES & set(info.roles):
        return None
    other = books.registry.denoises_beside(info.name)
    if other is None or other.info.model.speed == info.model.speed:
        return None
    return (
        f"{info.name} denoises with {_flags(info.model.speed)}, but {other.name} with "
        f"{_flags(other.info.model.speed)}; all that denoise need the same flags (drain the others "
        "first to change them)"
    )


def _flags(speed: Speed | None) -> str:
    return "no flags" if speed is None else ", ".join([f"dtype={speed.dtype}", *switches(speed)])
