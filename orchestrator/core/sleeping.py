"""Instances that sleep: their ranks have freed their device, and they get no work.

    sleep   gets nothing new ─▶ has nothing any more ─▶ asked, all ranks did ──▶ sleeping
            └─ a rank did not ──▶ its leader woke the others again: ready, as before
    wake    asked, all ranks did ──▶ given the adapters that it lacks, then ready

One call goes at a time, and none while adapters change. The instances of a call need not agree:
those that could sleep do. What an instance is, its leader says (`StateChanged`, `Register`); only
of one that stays silent amid falling asleep nobody knows, so it is woken, or told to begin anew.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from orchestrator.core import asking, changes
from orchestrator.core.asking import Replies
from orchestrator.core.books import Books
from orchestrator.core.commands import Answers
from orchestrator.core.events import AskInstances
from orchestrator.core.instances import Instance
from transfer.actions import Sleep, Wake

UNDO_S = 30.0  # for an instance to wake up that should have fallen asleep


@dataclass(eq=False)
class Rest:
    """`due`: its caller's time is over. `told`: the caller has the answer. `begun`: the instances
    have been asked; `answers`: what they said. `asleep`: slept already when they were asked."""

    number: int
    action: Sleep | Wake
    due: float
    names: list[str]
    told: bool = False
    begun: bool = False
    answers: Replies | None = None
    asleep: Collection[str] = ()


def begin(books: Books, event: AskInstances) -> None:
    """An operator wants instances to sleep, or to wake."""
    assert isinstance(event.action, Sleep | Wake)
    due = books.now + event.seconds
    books.rests.append(Rest(event.number, event.action, due, list(event.names)))
    go_on(books)


def go_on(books: Books) -> None:
    """Whatever time, or the end of requests, has made possible."""
    for rest in [x for x in books.rests if not x.told and x.due <= books.now]:
        _overdue(books, rest)
    while books.rests and not (head := books.rests[0]).begun:
        if isinstance(head.action, Sleep):
            _keep_from_work(books, head)
        if _waits_for(books, head) is not None:
            return
        head.begun = True
        head.asleep = {x.name for x in _instances(books, head) if x.reported == "sleeping"}
        seconds = max(0.0, head.due - books.now)
        asking.pose(books, head.names, head.action, seconds, partial(_done, head))


def _keep_from_work(books: Books, rest: Rest) -> None:
    """Those, too, that have registered again since."""
    for instance in _instances(books, rest):
        if not instance.resting:
            instance.resting = True
            books.stir(instance)


def _waits_for(books: Books, rest: Rest) -> str | None:
    """Why it cannot begin yet, for people."""
    instances = _instances(books, rest)
    heads = [x.model.changes[0] for x in instances if x.model.changes]
    if any(head.begun for head in heads) or any(x.equipping for x in instances):
        return "adapters or weights change"
    busy = sum(instance.busy for instance in instances)
    if busy and isinstance(rest.action, Sleep):
        return f"{busy} requests are under way there"
    return None


def _done(rest: Rest, books: Books, told: Replies) -> None:
    """Every instance has answered, was lost, or is late."""
    rest.answers = told
    if isinstance(rest.action, Wake) or not (unsure := _unsure(rest, told)):
        _end(books, rest, told, undone=None if all(x.ok for x in told.values()) else True)
        return
    if rest.due <= books.now:
        _tell(books, rest, told)  # how it ends is in the log

    def then(books: Books, woken: Replies) -> None:
        stuck = [name for name, x in woken.items() if not x.ok]
        for name in stuck:
            changes.diverge(books, name, "nobody knows whether it sleeps")
        _end(books, rest, told, undone=not stuck)

    asking.pose(books, unsure, Wake(), UNDO_S, then)


def _unsure(rest: Rest, told: Replies) -> list[str]:
    """Those that may fall asleep after all."""
    silent = (n for n, x in told.items() if x.error is not None and x.error.kind == "silent")
    return [name for name in silent if name not in rest.asleep]


def _overdue(books: Books, rest: Rest) -> None:
    """Its turn has not come in time, or it is still being undone."""
    if rest.begun:
        if rest.answers is not None:
            _tell(books, rest, rest.answers)
        return
    first = books.rests[0] is rest
    why = (_waits_for(books, rest) if first else None) or "another call goes first"
    _tell(books, rest, asking.unasked(books, rest.names, why))
    books.rests.remove(rest)
    if first:
        _let_work(books, rest)


def _end(books: Books, rest: Rest, told: Replies, undone: bool | None) -> None:
    assert books.rests[0] is rest
    _tell(books, rest, told, undone)
    books.rests.popleft()
    _let_work(books, rest)
    go_on(books)


def _let_work(books: Books, rest: Rest) -> None:
    """What keeps it from work from now on is its own word."""
    for instance in _instances(books, rest):
        instance.resting = False
        changes.look(books, instance)


def _tell(books: Books, rest: Rest, told: Replies, undone: bool | None = None) -> None:
    """The caller's one answer."""
    if not rest.told:
        rest.told = True
        books.commands.append(Answers(rest.number, told, undone))


def _instances(books: Books, rest: Rest) -> list[Instance]:
    found = (books.registry.by_name.get(name) for name in rest.names)
    return [instance for instance in found if instance is not None]
