"""LoRA adapters of a model: every instance of it that takes them has the same ones, or gets no
work.

Those that denoise take them, and those that have another component which adapters of this pipeline
may change: its text encoders, mostly. Each attaches what is for it, be it nothing; so nobody has to
know here which of them an adapter is for.

load      asked of all that take them ── all did ──▶ requests may have it on
          └─ some did not ──▶ unloaded again where it was loaded, or may have been
unload    offered no more ─▶ nobody has it on any more ─▶ asked of all ── all did ──▶ gone
          └─ some did not ──▶ loaded again where it was unloaded, and offered again
"""

from orchestrator.core.asking import Replies
from orchestrator.core.books import Books
from orchestrator.core.commands import InstanceAnswer
from orchestrator.core.instances import Instance
from orchestrator.core.kinds import Change
from orchestrator.core.models import Model
from transfer.actions import Action, Adapter, LoadLora, LoraLoaded, UnloadLora
from transfer.messages import DENOISES
from transfer.results import RankError


class Adapters:
    """The kind of change that loads or unloads one; see `kinds.Kind`."""

    undo_s = 30.0
    holds = False

    def prepare(self, books: Books, change: Change) -> Change:
        return change

    def waits_for(self, books: Books, change: Change) -> str | None:
        if not isinstance(change.action, UnloadLora):
            return None if any(map(denoises, takers(change.model))) else "no instance denoises"
        name = change.model.leaving = change.action.name
        wearers = _wearers(books, change.model, name)
        return f"{wearers} requests have {name} on" if wearers else None

    def concerned(self, change: Change) -> list[Instance]:
        return takers(change.model)

    def like(self, instance: Instance) -> frozenset[str]:
        """Whether a file fits, only they can tell who have what it changes."""
        return DENOISES.intersection(instance.info.roles).union(instance.info.adaptable)

    def problem(self, books: Books, change: Change, told: Replies) -> RankError | None:
        """Instances on several hosts may have found different files at one path."""
        if isinstance(change.action, UnloadLora) or _digest(told) is not None:
            return None
        return RankError("raised", "FilesDiffer", "the instances have loaded different files")

    def commit(self, books: Books, change: Change, told: Replies) -> None:
        model = change.model
        match change.action:
            case LoadLora(name, path, scale):
                model.adapters[name] = Adapter(name, path, scale, _digest(told) or "")
                books.log("info", f"adapter {name} is loaded, scale {scale:g}")
            case UnloadLora(name):
                model.adapters.pop(name, None)
                books.log("info", f"adapter {name} is unloaded")
        model.adapters_changed = True

    def back(self, change: Change) -> Action | None:
        known = change.model.adapters
        match change.action:
            case LoadLora(name):
                return None if name in known else UnloadLora(name)
            case UnloadLora(name) if name in known:
                return _loading(known[name])
        return None

    def end(self, books: Books, model: Model) -> None:
        model.leaving = None

    def note(self, instance: Instance, action: Action, answer: InstanceAnswer) -> None:
        value = answer.result.first.value
        if isinstance(action, LoadLora) and isinstance(value, LoraLoaded):
            instance.holds[action.name] = value.lora.digest
        elif isinstance(action, UnloadLora):
            instance.holds.pop(action.name, None)

    def missing(self, instance: Instance) -> Action | None:
        """Or what takes one from it that nobody has."""
        for adapter in _wanted(instance.model):
            held = instance.holds.get(adapter.name)
            if held is None:
                return _loading(adapter)
            if held != adapter.digest:  # another one of that name
                return UnloadLora(adapter.name)
        stray = surplus(instance)
        return None if stray is None else UnloadLora(stray)


def offered(model: Model) -> dict[str, Adapter]:
    """Those that requests may have on, in the order in which they were loaded."""
    return {name: x for name, x in model.adapters.items() if name != model.leaving}


def adopt(instance: Instance) -> bool:
    """The first registration that has any says what there is, unless this orchestrator has changed
    it, or is about to. Whether it did."""
    instance.holds = {x.name: x.digest for x in instance.info.adapters}
    model = instance.model
    if not takes(instance) or model.adapters or model.adapters_changed:
        return False
    changing = _changing(model)
    model.adapters = {x.name: x for x in instance.info.adapters if x.name != changing}
    return bool(model.adapters)


def fits(instance: Instance) -> bool:
    """It has all that it should have."""
    if not takes(instance):
        return True
    return all(instance.holds.get(x.name) == x.digest for x in _wanted(instance.model))


def surplus(instance: Instance) -> str | None:
    """What it has and nobody is to have: left behind by a change whose end was not heard of."""
    if not takes(instance):
        return None
    known = {*instance.model.adapters, _changing(instance.model)}
    return next((name for name in instance.holds if name not in known), None)


def takers(model: Model) -> list[Instance]:
    """All that are to have the same."""
    return [instance for instance in model.live.values() if takes(instance)]


def takes(instance: Instance) -> bool:
    """Adapters may change what it computes; or it denoises, and is to say why they may not."""
    return denoises(instance) or bool(instance.info.adaptable)


def denoises(instance: Instance) -> bool:
    return bool(DENOISES & set(instance.info.roles))


def _wanted(model: Model) -> list[Adapter]:
    """What every one of them has to have; not what is being unloaded, which nobody has on."""
    gone = _changing(model)
    return [x for x in model.adapters.values() if not (x.name == gone == model.leaving)]


def _changing(model: Model) -> str | None:
    head = model.changes[0] if model.changes else None
    if head is None or not head.begun or not isinstance(head.action, LoadLora | UnloadLora):
        return None
    return head.action.name


def _loading(adapter: Adapter) -> LoadLora:
    return LoadLora(adapter.name, adapter.path, adapter.scale)


def _digest(told: Replies) -> str | None:
    """Of what all ranks everywhere have loaded, if it was the same bytes."""
    values = [rank.value for answer in told.values() for rank in answer.result.results]
    digests = {value.lora.digest for value in values if isinstance(value, LoraLoaded)}
    return digests.pop() if len(digests) == 1 else None


def _wearers(books: Books, model: Model, name: str) -> int:
    requests = (x for x in books.ledger.active.values() if x.model is model)
    return sum(any(lora.name == name for lora in x.inputs.loras) for x in requests)
