"""Changes of what instances have, adapters and weights: everywhere or nowhere.

Of each model one is under way at a time, the others wait in line:

    asked of all that it concerns ── all did ──▶ from now on everybody is to have it so
    └─ some did not ──▶ undone where it was done, or may have been

Who cannot go back either is told to begin anew (`Reload`), and takes no work until it has what the
others have. An instance that comes, or comes back, is given that before its first request. What
sets the kinds apart is in `core.adapters` and `core.weights`.
"""

import math
from functools import partial

from msgspec.structs import replace

from orchestrator.core import adapters, asking, weights
from orchestrator.core.asking import Replies
from orchestrator.core.books import Books
from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.events import AskInstances
from orchestrator.core.instances import Instance
from orchestrator.core.kinds import Change, Kind
from orchestrator.core.models import Model
from transfer.actions import Action, LoadLora, PutWeights, UnloadLora, UpdateWeights
from transfer.messages import Register, Reload, StateChanged

EQUIP_S = 300.0  # for one to load something that the others have
EQUIP_AGAIN_S = 5.0  # after it could not

ADAPTERS, WEIGHTS = adapters.Adapters(), weights.Exchanges()


def kind_of(action: Action) -> Kind:
    return ADAPTERS if isinstance(action, LoadLora | UnloadLora) else WEIGHTS


def begin(books: Books, event: AskInstances) -> None:
    """An operator wants something changed: of one model, for no two have anything in common."""
    action = event.action
    assert isinstance(action, LoadLora | UnloadLora | UpdateWeights)
    models = _models_of(books, event.names, action)
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        _answer(books, event, f"these are of several models ({names}); name one")
        return
    (model,) = models
    change = Change(model, event.number, action, books.now + event.seconds, list(event.names))
    _stand_in_line(books, change)


def _models_of(books: Books, names: list[str], action: Action) -> list[Model]:
    """Those whose instances it concerns, each once."""
    found = filter(None, (books.registry.by_name.get(name) for name in names))
    weights = isinstance(action, UpdateWeights)
    mine = (x for x in found if (x.info.parts if weights else adapters.takes(x)))
    return list(dict.fromkeys(x.model for x in mine))


def _answer(books: Books, event: AskInstances, why: str) -> None:
    told = asking.unasked(books, event.names, why, "SeveralModels")
    books.commands.append(Answers(event.number, told, True))


def go_on(books: Books) -> None:
    """Whatever time, or the end of requests, has made possible."""
    for model in list(books.models):
        if model.changes:
            _go_on(books, model)


def _go_on(books: Books, model: Model) -> None:
    for change in [x for x in model.changes if not x.told and x.due <= books.now]:
        _overdue(books, change)
    if books.rests and books.rests[0].begun:
        return  # who falls asleep, or wakes up, loads nothing
    while model.changes and not (head := model.changes[0]).begun:
        kind = kind_of(head.action)
        if kind.waits_for(books, head) is not None:
            return
        asked = _asked(kind, kind.concerned(head))
        if any(x.reported == "sleeping" for x in asked):
            _refuse(books, head, "all that it concerns sleep; wake one first")
            continue
        head.begun = True
        head.names = [x.name for x in asked] or head.names
        seconds = min(EQUIP_S if math.isinf(head.due) else math.inf, head.due - books.now)
        made, note = partial(_made, head), partial(_note, head.action)
        asking.pose(books, head.names, head.action, max(0.0, seconds), made, note)


def holds(model: Model) -> bool:
    """Whether no request of it may begin now."""
    return bool(model.changes) and kind_of(model.changes[0].action).holds


def adopt(books: Books, instance: Instance, said: Register | StateChanged) -> None:
    """What an instance says that it has. Who knows nothing of the model learns from it."""
    model = instance.model
    instance.holds = {x.name: x.digest for x in said.adapters}
    learned = isinstance(said, Register) and adapters.adopt(instance)
    known = dict(model.weights)
    shared = weights.adopt(books, instance, said.weights)
    if learned or model.weights != known:
        for other in model.live.values():
            look(books, other)
    for each in shared:
        _stand_in_line(books, Change(model, None, PutWeights([each]), math.inf, [instance.name]))
    look(books, instance)


def look(books: Books, instance: Instance) -> None:
    """Whether it has what the others have. To be called when either has changed."""
    instance.equipped = weights.fits(instance) and adapters.fits(instance)
    instance.tidy = instance.equipped and adapters.surplus(instance) is None
    if instance.tidy:
        books.untidy.pop(instance, None)
    else:
        books.untidy[instance] = None
    books.stir(instance)


def equip(books: Books, instance: Instance) -> None:
    """Gives an instance the next thing that it lacks, or takes one from it that nobody has."""
    awake = instance.live and instance.reported == "ready" and not instance.resting
    ready = awake and not instance.equipping
    if instance.tidy or not ready or instance.equip_at > books.now:
        return
    kind: Kind = ADAPTERS if weights.fits(instance) else WEIGHTS
    action = kind.missing(instance)
    if action is None:
        return

    def then(books: Books, told: Replies) -> None:
        instance.equipping = False
        answer = told[instance.name]
        if instance.live and not answer.ok:
            instance.equip_at = books.now + EQUIP_AGAIN_S
            text = f"{instance} cannot be given what the others have ({action}): {_why(answer)}"
            books.log("error", f"{text}; it gets no work while it lacks anything")

    instance.equipping = True
    asking.pose(books, [instance.name], action, EQUIP_S, then, partial(_note, action))


def equip_all(books: Books) -> None:
    for instance in list(books.untidy):
        if instance.live:
            equip(books, instance)
        else:
            del books.untidy[instance]


# ---------------------------------------------------------------- one change


def _stand_in_line(books: Books, change: Change) -> None:
    change.model.changes.append(kind_of(change.action).prepare(books, change))
    _go_on(books, change.model)


def _asked(kind: Kind, concerned: list[Instance]) -> list[Instance]:
    """Those that are ready, and each other one that nobody of them can speak for."""
    ready = [kind.like(x) for x in concerned if x.reported == "ready"]

    def is_spoken_for(instance: Instance) -> bool:
        return any(kind.like(instance) <= each for each in ready)

    return [x for x in concerned if x.reported == "ready" or not is_spoken_for(x)]


def _made(change: Change, books: Books, told: Replies) -> None:
    """Every instance has answered, was lost, or is late."""
    kind = kind_of(change.action)
    told = change.answers = _judged(books, change, told)
    if all(x.ok for x in told.values()):
        kind.commit(books, change, told)
        _tell(books, change, told)
        _end(books, change)
        return
    back = kind.back(change)
    changed = [name for name, x in told.items() if x.result.ok or _unknown(x)]
    if not changed or back is None:
        _tell(books, change, told, undone=True)
        _end(books, change)
        return
    if change.due <= books.now:
        _tell(books, change, told)  # how the undoing ends is in the log

    def then(books: Books, undone: Replies) -> None:
        stuck = [name for name, x in undone.items() if not x.ok]
        for name in stuck:
            diverge(books, name, f"{change.action}: {_why(undone[name])}")
        _tell(books, change, told, undone=not stuck)
        _end(books, change)

    asking.pose(books, changed, back, kind.undo_s, then, partial(_note, back))


def _judged(books: Books, change: Change, told: Replies) -> Replies:
    """What all did may be no success all the same."""
    if not all(x.ok for x in told.values()):
        return told
    error = kind_of(change.action).problem(books, change, told)
    if error is None:
        return told
    return {name: replace(answer, error=error) for name, answer in told.items()}


def _end(books: Books, change: Change) -> None:
    model = change.model
    assert model.changes[0] is change
    model.changes.popleft()
    kind_of(change.action).end(books, model)
    for instance in model.live.values():
        look(books, instance)
    _go_on(books, model)


def _tell(books: Books, change: Change, told: Replies, undone: bool | None = None) -> None:
    """The caller's one answer."""
    if not change.told:
        change.told = True
        if change.number is not None:
            books.commands.append(Answers(change.number, told, undone))


def _overdue(books: Books, change: Change) -> None:
    """Its turn has not come in time, or it is still being undone. How that ends is in the log."""
    if change.begun:
        if change.answers is not None:
            _tell(books, change, change.answers)
        return
    first = change.model.changes[0] is change
    why = kind_of(change.action).waits_for(books, change) if first else None
    _refuse(books, change, why or "another goes first")


def _refuse(books: Books, change: Change, why: str) -> None:
    """It ends before it has begun."""
    _tell(books, change, asking.unasked(books, change.names, why))
    if change.model.changes[0] is change:
        kind_of(change.action).end(books, change.model)
    change.model.changes.remove(change)


def diverge(books: Books, name: str, cause: str) -> None:
    """Its ranks are not what they should be: others take their place."""
    instance = books.registry.by_name.get(name)
    if instance is None:
        return
    books.count("instances_diverged")
    books.log("error", f"{instance} is not what the others are, and begins anew: {cause}")
    instance.reported, instance.holds, instance.weights = "divergent", {}, {}
    instance.renewing = True
    books.send(instance, Reload(instance.epoch, cause))
    look(books, instance)


def _note(action: Action, books: Books, instance: Instance, answer: InstanceAnswer) -> None:
    """What it has now, if it did it. Noted at once: until the others have answered, it may have got
    new ranks, or be another process of the same name."""
    if answer.ok:
        kind_of(action).note(instance, action, answer)
        look(books, instance)


def _unknown(answer: InstanceAnswer) -> bool:
    """Whether it may have done it after all."""
    return answer.error is not None and answer.error.kind == "silent"


def _why(answer: InstanceAnswer) -> str:
    return answer.error.message if answer.error is not None else str(answer.result)
