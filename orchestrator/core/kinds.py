"""What sets one kind of change apart from another: see `core.changes` for what they share."""

from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.asking import Replies
from orchestrator.core.books import Books
from orchestrator.core.commands import InstanceAnswer
from orchestrator.core.instances import Instance
from orchestrator.core.models import Model
from transfer.actions import Action, LoadLora, PutWeights, UnloadLora, UpdateWeights
from transfer.results import RankError


@dataclass(eq=False)
class Change:
    """`model`: of which all that it concerns are. `number`: of whoever waits for the answer; None:
    it is our own. `due`: that one's time is over. `told`: the caller has the answer. `begun`: it is
    at the head of the line, and the instances have been asked; `answers`: what they said.
    `required`: the components that have to be found, where the caller has named them."""

    model: Model
    number: int | None
    action: LoadLora | UnloadLora | UpdateWeights | PutWeights
    due: float
    names: list[str]
    required: tuple[str, ...] = ()
    told: bool = False
    begun: bool = False
    answers: Replies | None = None


class Kind(Protocol):
    """`undo_s`: seconds for an instance to go back. `holds`: no request begins from the moment at
    which such a change is at the head of the line until it is over."""

    undo_s: float
    holds: bool

    def prepare(self, books: Books, change: Change) -> Change:
        """The change as it stands in line."""

    def waits_for(self, books: Books, change: Change) -> str | None:
        """Why it cannot begin yet, for people."""

    def concerned(self, change: Change) -> list[Instance]:
        """Whom it is asked of."""

    def problem(self, books: Books, change: Change, told: Replies) -> RankError | None:
        """Why it is no success, although every rank of every instance did it."""

    def commit(self, books: Books, change: Change, told: Replies) -> None:
        """Everybody did it."""

    def back(self, change: Change) -> Action | None:
        """What undoes it; None if nothing has to."""

    def end(self, books: Books, model: Model) -> None:
        """It is over, whatever came of it."""

    def note(self, instance: Instance, action: Action, answer: InstanceAnswer) -> None:
        """The instance did it, and has something else now."""

    def missing(self, instance: Instance) -> Action | None:
        """What gives the instance the next thing that the others have."""
