"""Who may register, and what may be submitted."""

from orchestrator.core import dispatch
from orchestrator.core.books import Books
from orchestrator.core.commands import DuplicateId, NoRoute, Progress, QueueFull, Refusal, Reject
from orchestrator.core.events import Submit
from orchestrator.core.instances import RECEIVERS
from orchestrator.core.models import Model
from transfer.messages import DENOISES, SPLIT_ROUTE, ModelInfo, Register, Replaced, Speed
from transfer.speed import switches

MAX_NAME = 128
MAX_PREVIEWS = 16
MAX_TOLD = 8  # models


def submit(books: Books, event: Submit) -> None:
    """Accepts the request, or says why not."""
    model = _meant(books, event)
    refusal = _refusal(books, event, model)
    if refusal is not None or model is None:
        books.count("requests_refused")
        books.commands.append(Reject(event.request, refusal or _nobody(event)))
        return
    books.count("requests_accepted")
    route = model.route()
    attempt = books.ledger.open(
        event.request,
        model,
        event.inputs,
        route,
        books.now,
        event.deadline_s,
        event.attempts,
        min(event.attempts, books.config.max_attempts - 1),  # one is always left
        model.forecast.works(route, event.inputs, model.info),
    )
    if books.config.schedule == "sjf":
        attempt.request.due = model.forecast.due(attempt.request)
    attempt.request.previews = min(event.previews, MAX_PREVIEWS)
    model.queued += 1
    books.commands.append(Progress(event.request, attempt.request.tries + 1, "queued", None, 0, 0))
    dispatch.join(books, attempt)


def _meant(books: Books, event: Submit) -> Model | None:
    """The model that it names; without a name, what that means here. A job may name one whose
    roles have not come yet."""
    registry = books.registry
    return registry.find_model(event.model) if event.model else registry.usual


def _nobody(event: Submit) -> NoRoute:
    return NoRoute(list(SPLIT_ROUTE), model=event.model)


def _refusal(books: Books, event: Submit, model: Model | None) -> Refusal | None:
    if event.request in books.ledger.active:
        return DuplicateId()
    if model is None:
        return _nobody(event)
    if lacking := model.missing():
        return NoRoute(lacking, model.asleep(), model.name)
    first = model.route()[0]
    if model.queued >= books.config.max_queue:
        priority = event.inputs.priority
        room = model.rosters[first].rooms(priority).now
        if model.lines[first].ahead_of(priority) or not room:
            return QueueFull(model.retry_after())
    return None


def objection(books: Books, info: Register) -> str | None:
    """Why a registration is refused; None if it is not."""
    return (
        _malformed(info)
        or _excessive(books, info)
        or _conflict(books, info)
        or _other_model(books, info)
        or _too_many_models(books, info)
        or _other_speed(books, info)
    )


def _malformed(info: Register) -> str | None:
    roles = set(info.roles)
    if not 0 < len(info.model.name) <= 2 * MAX_NAME or not info.model.name.isprintable():
        return f"a model's name of no use in addresses and logs: {info.model.name[:MAX_NAME]!r}"
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
    """Of that name there is another one: requests would be made with either, by chance."""
    model = books.registry.model_of(info.model)
    if model is None or model.info.fingerprint == info.model.fingerprint:
        return None
    other = books.registry.other_than(info.name, model)
    if other is None:
        return None
    if other_components := _other_components(model.info, info.model):
        return (
            f"{info.name} has {', '.join(other_components)} than {other.name}: start all instances "
            "with the same --component flags"
        )
    return (
        f"{info.name} has model {info.model.name} ({info.model.fingerprint}), but {other.name} "
        f"has {model.name} ({model.info.fingerprint}); all instances of a model must have the "
        "same: give a different one a name of its own with --model-name, or drain the others first"
    )


def _too_many_models(books: Books, info: Register) -> str | None:
    registry, most = books.registry, books.config.max_models
    if len(others := registry.beside(info.model)) >= most:
        served = ", ".join(f"{x.name} ({x.info.fingerprint})" for x in others[:MAX_TOLD])
        return (
            f"{info.name} has model {info.model.name} ({info.model.fingerprint}), but this "
            f"orchestrator serves {served}, and no more than --max-models {most}"
        )
    if registry.model_of(info.model) is None and not registry.can_know_more:
        return f"{len(registry.models)} models are known, no more are allowed"
    return None


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
    return None if replaced is None else replaced.fingerprint


def _from(replaced: dict[str, Replaced], name: str) -> str:
    return f"that of {replaced[name].source}" if name in replaced else "the model's own"


def _other_speed(books: Books, info: Register) -> str | None:
    """One request would have other pixels than the next, by the chance of who took it."""
    if not DENOISES & set(info.roles):
        return None
    model = books.registry.model_of(info.model)
    if model is None:
        return None
    other = books.registry.denoises_beside(info.name, model)
    if other is None or other.info.model.speed == info.model.speed:
        return None
    return (
        f"{info.name} denoises with {_flags(info.model.speed)}, but {other.name} with "
        f"{_flags(other.info.model.speed)}; all that denoise need the same flags (drain the others "
        "first to change them, or serve both, each with a --model-name of its own)"
    )


def _flags(speed: Speed | None) -> str:
    return "no flags" if speed is None else ", ".join([f"dtype={speed.dtype}", *switches(speed)])
