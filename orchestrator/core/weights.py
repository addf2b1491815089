"""Weights of a model: of a component, every instance that computes with it has the same ones.

    update    no request begins ─▶ none is under way ─▶ asked of all that compute with these
              components ── all did ──▶ everybody has them, requests begin
              └─ some did not ──▶ those before it are put back where they were changed, or may be

So every request is made with the weights with which it began, retries included. What is told of a
component without a word of its weights has the model's own.
"""

from collections import defaultdict
from collections.abc import Iterable

from msgspec.structs import replace

from orchestrator.core import ending
from orchestrator.core.asking import Replies
from orchestrator.core.attempts import State
from orchestrator.core.books import Books
from orchestrator.core.commands import InstanceAnswer
from orchestrator.core.instances import Instance
from orchestrator.core.kinds import Change
from orchestrator.core.models import Model
from orchestrator.core.requests import Request
from transfer.actions import Action, PutWeights, UpdateWeights, Weights, WeightsUpdated
from transfer.results import RankError

OWN = ""  # the digest of the model's own weights
UNKNOWN = "?"  # of those that are being changed at this moment


class Exchanges:
    """The kind of change that gives components other weights; see `kinds.Kind`."""

    undo_s = 300.0
    holds = True

    def prepare(self, books: Books, change: Change) -> Change:
        """Its components are named from here on; who shares one is asked, too."""
        action = change.action
        if isinstance(action, UpdateWeights):
            change.required = tuple(action.components)
            components = action.components or sorted(parts_of(books, change.names))
            change.action = replace(action, components=components)
        change.model.weights_known.update(_components(change.action))
        return change

    def waits_for(self, books: Books, change: Change) -> str | None:
        begun = 0
        for request in list(books.ledger.active.values()):
            if request.model is not change.model:
                continue
            if has_begun(request):
                begun += 1
            else:
                ending.forget_copy(books, request)  # which was made with these weights
        if begun:
            return f"{begun} requests are under way"
        busy = sum(instance.busy for instance in self.concerned(change))
        return f"{busy} requests are being taken back" if busy else None

    def concerned(self, change: Change) -> list[Instance]:
        components = set(_components(change.action))
        return [x for x in change.model.live.values() if components & set(x.info.parts)]

    def problem(self, books: Books, change: Change, told: Replies) -> RankError | None:
        found = _found(told)
        if any(len(each) > 1 for each in found.values()):
            return RankError("raised", "FilesDiffer", "the instances have read different files")
        for name in told:
            has = {each.component for each in _of(told[name])}
            if lost := (parts_of(books, [name]) & found.keys()) - has:
                text = f"{name} has found nothing of {', '.join(sorted(lost))} there"
                return RankError("raised", "FilesDiffer", text)
        lost = set(change.required) - found.keys()
        if lost or not found:
            what = ", ".join(sorted(lost)) or "what the target computes with"
            return RankError("raised", "FileNotFoundError", f"there are no weights of {what} there")
        return None

    def commit(self, books: Books, change: Change, told: Replies) -> None:
        for component, each in _found(told).items():
            (weights,) = each
            _settle(change.model, weights)
            books.log("info", f"{component} has the weights of {weights.path or 'its model'}")

    def back(self, change: Change) -> Action | None:
        return PutWeights([_wanted(change.model, name) for name in _components(change.action)])

    def end(self, books: Books, model: Model) -> None:
        """Requests may begin again."""
        for role in model.lines:
            books.call(model, role)

    def note(self, instance: Instance, action: Action, answer: InstanceAnswer) -> None:
        for each in _of(answer):
            instance.weights[each.component] = each.digest

    def missing(self, instance: Instance) -> Action | None:
        """While it has work, and of what is about to change, it is left as it is."""
        changes = instance.model.changes
        coming = {name for change in changes for name in _components(change.action)}
        compared = (x for x in _compared(instance) if x.component not in coming)
        lacking = [x for x in compared if not _has(instance, x)]
        return PutWeights(lacking) if lacking and not instance.busy else None


def has_begun(request: Request) -> bool:
    """Something of it was computed, and will be used."""
    return request.attempt is not None and request.attempt.state is not State.QUEUED


def parts_of(books: Books, names: Iterable[str]) -> set[str]:
    """What these instances compute with."""
    found = (books.registry.by_name.get(name) for name in names)
    return {part for instance in found if instance is not None for part in instance.info.parts}


def fits(instance: Instance) -> bool:
    """It has what it should have."""
    return all(_has(instance, each) for each in _compared(instance))


def adopt(books: Books, instance: Instance, told: Iterable[Weights]) -> list[Weights]:
    """What an instance says that it has. Of a component that this orchestrator has not changed, the
    first that has other weights than the model's own says what everybody is to have; it has to be
    given to others amid their requests, if it is returned."""
    model = instance.model
    instance.weights = {each.component: each.digest for each in told}
    news = [x for x in told if x.digest not in (OWN, UNKNOWN)]
    news = [x for x in news if x.component not in model.weights_known]
    if any(x.model is model and has_begun(x) for x in books.ledger.active.values()):
        shared = [x for x in news if any(not _has(o, x) for o in _sharing(model, x.component))]
    else:
        shared = []
    model.weights_known.update(each.component for each in news)
    for each in news:
        if each not in shared:
            _settle(model, each)
    return shared


def _sharing(model: Model, component: str) -> list[Instance]:
    return [x for x in model.live.values() if component in x.info.parts]


def _settle(model: Model, weights: Weights) -> None:
    model.weights_known.add(weights.component)
    model.weights.pop(weights.component, None)
    if weights.digest != OWN:
        model.weights[weights.component] = weights


def _wanted(model: Model, component: str) -> Weights:
    return model.weights.get(component, Weights(component))


def _compared(instance: Instance) -> list[Weights]:
    """What it has to have, but for what is changing."""
    changes = instance.model.changes
    head = changes[0] if changes else None
    changing = _components(head.action) if head is not None and head.begun else []
    return [_wanted(instance.model, name) for name in instance.info.parts if name not in changing]


def _has(instance: Instance, weights: Weights) -> bool:
    return instance.weights.get(weights.component, OWN) == weights.digest


def _components(action: Action) -> list[str]:
    match action:
        case UpdateWeights(components=components):
            return components
        case PutWeights(weights=weights):
            return [each.component for each in weights]
    return []


def _found(told: Replies) -> dict[str, set[Weights]]:
    """What the ranks have now, by component; one where all have the same."""
    found: dict[str, dict[str, Weights]] = defaultdict(dict)
    for answer in told.values():
        for each in _of(answer):
            found[each.component][each.digest] = each
    return {component: set(each.values()) for component, each in found.items()}


def _of(answer: InstanceAnswer) -> list[Weights]:
    """Ranks of an instance have the same, or their leader calls it an error."""
    values = [rank.value for rank in answer.result.results if rank.ok]
    told = [each for x in values if isinstance(x, WeightsUpdated) for each in x.weights]
    return [Weights(each.component, each.path, each.digest) for each in told]
