"""LoRA adapters of the cluster: every instance that denoises has the same ones, or gets no work.

A change is made everywhere or nowhere. One is under way at a time, the others wait in line:

    load      asked of all that denoise ── all did ──▶ requests may have it on
              └─ some did not ──▶ unloaded again where it was loaded, or may have been
    unload    offered no more ─▶ nobody has it on any more ─▶ asked of all ── all did ──▶ gone
              └─ some did not ──▶ loaded again where it was unloaded, and offered again

Who cannot go back either is told to begin anew (`Reload`), and takes no work until it has what the
others have. An instance that comes, or comes back, is given that before its first request.
"""

from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from orchestrator.core import asking
from orchestrator.core.asking import Replies
from orchestrator.core.books import Books
from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.events import AskInstances
from orchestrator.core.instances import Instance
from transfer.actions import Adapter, LoadLora, LoraLoaded, UnloadLora
from transfer.messages import DENOISES, Reload
from transfer.results import PoolResult, RankError

UNDO_S = 30.0  # for an instance to go back
EQUIP_S = 300.0  # for one to load an adapter that the others have
EQUIP_AGAIN_S = 5.0  # after it could not


@dataclass(eq=False)
class Change:
    """`due`: its caller's time is over. `told`: the caller has the answer. `begun`: it is at the
    head of the line, and the instances have been asked; `answers`: what they said."""

    number: int
    action: LoadLora | UnloadLora
    due: float
    names: list[str]
    told: bool = False
    begun: bool = False
    answers: Replies | None = None


def begin(books: Books, event: AskInstances) -> None:
    """An operator wants an adapter loaded or unloaded."""
    assert isinstance(event.action, LoadLora | UnloadLora)
    books.changes.append(
        Change(event.number, event.action, books.now + event.seconds, list(event.names))
    )
    go_on(books)


def go_on(books: Books) -> None:
    """Whatever time, or the end of requests, has made possible."""
    for change in [x for x in books.changes if not x.told and x.due <= books.now]:
        _overdue(books, change)
    if books.rests and books.rests[0].begun:
        return  # who falls asleep, or wakes up, loads nothing
    while books.changes and not (head := books.changes[0]).begun:
        if isinstance(head.action, UnloadLora):
            books.leaving = head.action.name
            if _wearers(books, head.action.name):
                return
        head.begun = True
        head.names = [x.name for x in _denoisers(books) if x.reported == "ready"] or head.names
        seconds = max(0.0, head.due - books.now)
        made, note = partial(_made, head), partial(_note, head.action)
        asking.pose(books, head.names, head.action, seconds, made, note)


def offered(books: Books) -> dict[str, Adapter]:
    """Those that requests may have on, in the order in which they were loaded."""
    return {name: x for name, x in books.adapters.items() if name != books.leaving}


def adopt(books: Books, instance: Instance) -> None:
    """A registration: the first that has any says what there is, unless this orchestrator has
    changed it."""
    instance.holds = {x.name: x.digest for x in instance.info.adapters}
    if _denoises(instance) and not books.adapters and not books.adapters_changed:
        books.adapters = {x.name: x for x in instance.info.adapters}
        for other in _denoisers(books):
            look(books, other)
    look(books, instance)


def look(books: Books, instance: Instance) -> None:
    """Whether it has what the others have. To be called when either has changed."""
    wanted = _wanted(books)
    instance.equipped = instance.tidy = True
    if _denoises(instance):
        instance.equipped = all(instance.holds.get(x.name) == x.digest for x in wanted)
        instance.tidy = instance.equipped and _surplus(books, instance) is None
    books.stir(instance)


def equip(books: Books, instance: Instance) -> None:
    """Gives an instance the next adapter that it lacks, or takes one from it that nobody has."""
    awake = instance.live and instance.reported == "ready" and not instance.resting
    ready = awake and not instance.equipping
    if instance.tidy or not ready or instance.equip_at > books.now:
        return
    lacking = [x for x in _wanted(books) if instance.holds.get(x.name) != x.digest]
    name = lacking[0].name if lacking else _surplus(books, instance)
    if name is None:
        return
    action: LoadLora | UnloadLora = UnloadLora(name)
    if lacking and name not in instance.holds:  # not another one of that name
        action = LoadLora(name, lacking[0].path, lacking[0].scale)

    def then(books: Books, told: Replies) -> None:
        instance.equipping = False
        answer = told[instance.name]
        if instance.live and not answer.ok:
            instance.equip_at = books.now + EQUIP_AGAIN_S
            text = f"{instance} cannot be given the others' adapters ({name}): {_why(answer)}"
            books.log("error", f"{text}; it gets no work while it lacks any")

    instance.equipping = True
    asking.pose(books, [instance.name], action, EQUIP_S, then, partial(_note, action))


def equip_all(books: Books) -> None:
    for instance in _denoisers(books):
        if not instance.tidy:
            equip(books, instance)


# ---------------------------------------------------------------- one change


def _made(change: Change, books: Books, told: Replies) -> None:
    """Every instance has answered, was lost, or is late."""
    told = change.answers = _compared(change.action, told)
    if all(x.ok for x in told.values()) and (adapter := _same(change.action, told)) is not None:
        _commit(books, change.action, adapter)
        _tell(books, change, told)
        _end(books, change)
        return
    before = books.adapters.get(change.action.name)
    kept = before is not None and isinstance(change.action, LoadLora)
    changed = [] if kept else [name for name, x in told.items() if x.result.ok or _unknown(x)]
    back = _back(change.action, before)
    if not changed or back is None:
        _tell(books, change, told, undone=True)
        _end(books, change)
        return
    if change.due <= books.now:
        _tell(books, change, told)  # how the undoing ends is in the log

    def then(books: Books, undone: Replies) -> None:
        stuck = [name for name, x in undone.items() if not x.ok]
        for name in stuck:
            diverge(books, name, f"{change.action.name}: {_why(undone[name])}")
        _tell(books, change, told, undone=not stuck)
        _end(books, change)

    asking.pose(books, changed, back, UNDO_S, then, partial(_note, back))


def _commit(books: Books, action: LoadLora | UnloadLora, adapter: Adapter) -> None:
    if isinstance(action, LoadLora):
        books.adapters[action.name] = adapter
        books.log("info", f"adapter {action.name} is loaded, scale {action.scale:g}")
    else:
        books.adapters.pop(action.name, None)
        books.log("info", f"adapter {action.name} is unloaded")
    books.adapters_changed = True


def _end(books: Books, change: Change) -> None:
    assert books.changes[0] is change
    books.changes.popleft()
    books.leaving = None
    for instance in _denoisers(books):
        look(books, instance)
    go_on(books)


def _tell(books: Books, change: Change, told: Replies, undone: bool | None = None) -> None:
    """The caller's one answer."""
    if not change.told:
        change.told = True
        books.commands.append(Answers(change.number, told, undone))


def _overdue(books: Books, change: Change) -> None:
    """Its turn has not come in time, or it is still being undone. How that ends is in the log."""
    if change.begun:
        if change.answers is not None:
            _tell(books, change, change.answers)
        return
    name, first = change.action.name, books.changes[0] is change
    text = f"{_wearers(books, name)} requests have {name} on" if first else "another goes first"
    error = RankError("closed", "NotBegun", f"nothing was changed: {text}")
    _tell(books, change, {x: InstanceAnswer("ready", PoolResult(()), error) for x in change.names})
    if first:
        books.leaving = None
    books.changes.remove(change)


def _back(action: LoadLora | UnloadLora, before: Adapter | None) -> LoadLora | UnloadLora | None:
    """What undoes it; None if nothing has to."""
    if isinstance(action, LoadLora):
        return UnloadLora(action.name)
    return None if before is None else LoadLora(before.name, before.path, before.scale)


def _same(action: LoadLora | UnloadLora, told: Replies) -> Adapter | None:
    """The adapter, if all ranks everywhere have loaded the same bytes."""
    if isinstance(action, UnloadLora):
        return Adapter(action.name, "", 0.0, "")
    values = [rank.value for answer in told.values() for rank in answer.result.results]
    digests = {value.lora.digest for value in values if isinstance(value, LoraLoaded)}
    if len(digests) != 1:
        return None
    return Adapter(action.name, action.path, action.scale, digests.pop())


def _compared(action: LoadLora | UnloadLora, told: Replies) -> Replies:
    """Instances on several hosts may have found different files at one path: that is no success."""
    if not all(x.ok for x in told.values()) or _same(action, told) is not None:
        return told
    error = RankError("raised", "FilesDiffer", "the instances have loaded different files")
    return {name: replace(answer, error=error) for name, answer in told.items()}


def diverge(books: Books, name: str, cause: str) -> None:
    """Its ranks are not what they should be: others take their place."""
    instance = books.registry.by_name.get(name)
    if instance is None:
        return
    books.count("instances_diverged")
    books.log("error", f"{instance} is not what the others are, and begins anew: {cause}")
    instance.reported, instance.holds = "divergent", {}
    books.send(instance, Reload(instance.epoch, cause))
    look(books, instance)


# ---------------------------------------------------------------- instances and requests


def _note(
    action: LoadLora | UnloadLora, books: Books, instance: Instance, answer: InstanceAnswer
) -> None:
    """What it has now, if it did it. Noted at once: until the others have answered, it may have got
    new ranks, or be another process of the same name."""
    if not answer.ok:
        return
    value = answer.result.first.value
    if isinstance(action, LoadLora) and isinstance(value, LoraLoaded):
        instance.holds[action.name] = value.lora.digest
    else:
        instance.holds.pop(action.name, None)
    look(books, instance)


def _wanted(books: Books) -> list[Adapter]:
    """What every denoiser has to have; not what is being unloaded, which nobody has on."""
    gone = _changing(books)
    return [x for x in books.adapters.values() if not (x.name == gone == books.leaving)]


def _surplus(books: Books, instance: Instance) -> str | None:
    """What it has and nobody is to have: left behind by a change whose end was not heard of."""
    known = {*books.adapters, _changing(books)}
    return next((name for name in instance.holds if name not in known), None)


def _changing(books: Books) -> str | None:
    head = books.changes[0] if books.changes else None
    return head.action.name if head is not None and head.begun else None


def _unknown(answer: InstanceAnswer) -> bool:
    """Whether it may have done it after all."""
    return answer.error is not None and answer.error.kind == "silent"


def _why(answer: InstanceAnswer) -> str:
    return answer.error.message if answer.error is not None else str(answer.result)


def _wearers(books: Books, name: str) -> int:
    requests = books.ledger.active.values()
    return sum(any(lora.name == name for lora in x.inputs.loras) for x in requests)


def _denoisers(books: Books) -> list[Instance]:
    return [instance for instance in books.registry.live.values() if _denoises(instance)]


def _denoises(instance: Instance) -> bool:
    return bool(DENOISES & set(instance.info.roles))
