"""What instances are asked for every rank of theirs, and the one answer that each of them gets.

An answer is complete when every instance has given its own, was lost, or the caller's time is over:
whatever comes first. Nothing here holds up a request.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.core.books import Books
from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.events import AskInstances
from orchestrator.core.instances import Instance
from transfer.actions import Action, Told
from transfer.messages import Answered, Ask
from transfer.results import Kind, PoolResult, RankError, RankResult

ON_THE_WAY = 0.1  # of the time, for the answer of a leader whose ranks stay silent
ON_THE_WAY_S = 0.5  # and no more than this

Replies = dict[str, InstanceAnswer]
Then = Callable[[Books, Replies], None]
Heard = Callable[[Books, Instance, InstanceAnswer], None]


@dataclass
class Question:
    """`waiting`: the instances that have not answered; `answers`: of the others, by name."""

    number: int
    names: Sequence[str]
    seconds: float
    asked_at: float
    then: Then
    heard: Heard | None = None
    waiting: dict[str, Instance] = field(default_factory=dict)
    answers: dict[str, InstanceAnswer] = field(default_factory=dict)


def ask(books: Books, event: AskInstances) -> None:
    """An operator asks."""

    def tell(books: Books, answers: Replies) -> None:
        books.commands.append(Answers(event.number, answers))

    pose(books, event.names, event.action, event.seconds, tell)


def pose(
    books: Books,
    names: Sequence[str],
    action: Action,
    seconds: float,
    then: Then,
    heard: Heard | None = None,
) -> None:
    """Asks the live instances of these names; of others it is told that they are not there. `then`
    is called once, with all answers; `heard` with each, while it is the last that is known of its
    instance."""
    question = Question(books.next_question(), names, seconds, books.now, then, heard)
    for name in names:
        instance = books.registry.by_name.get(name)
        if instance is None:
            question.answers[name] = InstanceAnswer("failed", PoolResult(()), _gone(name))
        else:
            question.waiting[name] = instance
    books.questions[question.number] = question
    books.ledger.questions.put(books.now + seconds, question.number, question)
    left = seconds - min(ON_THE_WAY_S, ON_THE_WAY * seconds)
    for instance in question.waiting.values():
        books.send(instance, Ask(instance.epoch, question.number, action, left))
    _settle(books, question)


def answered(books: Books, instance: Instance, message: Answered) -> None:
    """Late, double and strange answers cost a counter."""
    question = books.questions.get(message.number)
    if question is None or question.waiting.get(instance.name) is not instance:
        books.count("dropped_late_answers")
        return
    del question.waiting[instance.name]
    answer = InstanceAnswer(instance.state, message.result)
    question.answers[instance.name] = answer
    if question.heard is not None:
        question.heard(books, instance, answer)
    _settle(books, question)


def bereave(books: Books, instance: Instance, cause: str) -> None:
    """The instance is out: whoever asked it is answered at once."""
    for question in list(books.questions.values()):
        if question.waiting.get(instance.name) is instance:
            _give_up(books, question, instance, "died", "InstanceLost", f"was lost: {cause}")
            _settle(books, question)


def expire(books: Books) -> None:
    """Answers for those that have not done so in time."""
    while question := books.ledger.questions.pop_until(books.now):
        text = f"did not answer for {round(question.seconds, 3):g} s"
        for instance in list(question.waiting.values()):
            _give_up(books, question, instance, "silent", "InstanceSilent", text)
        _settle(books, question)


def _give_up(
    books: Books, question: Question, instance: Instance, kind: Kind, type: str, text: str
) -> None:
    error = RankError(kind, type, f"instance {instance.name} {text}")
    del question.waiting[instance.name]
    answer = _for_all(instance, error, books.now - question.asked_at)
    question.answers[instance.name] = answer


def _settle(books: Books, question: Question) -> None:
    if question.waiting:
        return
    del books.questions[question.number]
    books.ledger.questions.discard(question.number)
    question.then(books, {name: question.answers[name] for name in question.names})


def unasked(books: Books, names: Iterable[str], why: str, type: str = "NotBegun") -> Replies:
    """What is said of a change that none of these was asked for."""
    error = RankError("closed", type, f"nothing was changed: {why}")
    known = {name: books.registry.by_name.get(name) for name in names}
    return {
        name: InstanceAnswer("failed", PoolResult(()), _gone(name))
        if instance is None
        else _for_all(instance, error, 0.0)
        for name, instance in known.items()
    }


def _for_all(instance: Instance, error: RankError, seconds: float) -> InstanceAnswer:
    """What is said in the place of an instance, and of each of its ranks."""
    host = instance.info.host.hostname
    ranks: tuple[RankResult[Told], ...] = tuple(
        RankResult(x.rank, x.pid, False, None, error, seconds, x.host or host)
        for x in instance.ranks
    )
    return InstanceAnswer(instance.state, PoolResult(ranks), error)


def _gone(name: str) -> RankError:
    return RankError("closed", "InstanceGone", f"there is no instance {name} any more")
