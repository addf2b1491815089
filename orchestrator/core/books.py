"""Everything the machine knows, in one place, for the modules that decide.

They take the books as their first argument, change what they find, and leave commands behind.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.core.commands import Command, Log, Send
from orchestrator.core.config import Config
from orchestrator.core.history import Change as StateChange
from orchestrator.core.history import History
from orchestrator.core.instances import Instance
from orchestrator.core.ledger import Ledger
from orchestrator.core.models import Model
from orchestrator.core.registry import Registry
from transfer.messages import FromOrchestrator, InstanceState, Release, Role, Shelf

if TYPE_CHECKING:
    from orchestrator.core.asking import Question
    from orchestrator.core.sleeping import Rest

RELEASES = 64  # kept payloads that are released in one message


class Books:
    """`now` is the time of the event that is being handled. `stirred` are the instances whose
    load, slots or state have changed, `calls` the roles of models whose line should be looked at
    again: `dispatch.settle` empties both at the end of each event. `heard` has the live instances,
    the one that has been silent for longest first. `copiers` are those of which a checkpoint may
    have to be copied; `untidy` those that lack something the others have, or have something that
    nobody is to have. `questions` are those that instances are asked, by number, and `rests` are in
    line of those who are to sleep or to wake."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0.0
        self.registry = Registry(config)
        self.ledger = Ledger(config.max_past)
        self.questions: dict[int, Question] = {}
        self.rests: deque[Rest] = deque()
        self.history = History()
        self.counters: Counter[str] = Counter()
        self.commands: list[Command] = []
        self.stirred: dict[Instance, None] = {}
        self.calls: dict[tuple[Model, Role], None] = {}
        self.copiers: dict[Instance, None] = {}
        self.untidy: dict[Instance, None] = {}
        self.heard: OrderedDict[Instance, float] = OrderedDict()
        self._releases: dict[Instance, list[tuple[Shelf, str, int]]] = {}
        self.unchecked = False  # something has changed since the last integrity check
        self._questions = 0
        self._generation = config.first_generation - 1

    def count(self, name: str) -> None:
        self.counters[name] += 1

    def log(self, level: str, text: str) -> None:
        self.commands.append(Log(level, text))  # type: ignore[arg-type]

    def note(self, instance: Instance, state: InstanceState, cause: str) -> None:
        """It is in this state now."""
        if instance.noted is None or instance.noted.state != state:
            instance.noted = self.note_of(instance.name, instance.epoch, state, cause)

    def note_of(self, name: str, epoch: int, state: InstanceState, cause: str) -> StateChange:
        change = StateChange(name, epoch, state, cause, self.now)
        self.history.changes.append(change)
        level = "warning" if state in ("failed", "divergent") else "info"
        self.log(level, f"{name} (epoch {epoch}) is {state}: {cause}")
        return change

    def send(self, instance: Instance, message: FromOrchestrator) -> None:
        self.commands.append(Send(instance.connection, message))

    def release(self, instance: Instance, shelf: Shelf, request: str, attempt: int) -> None:
        """Tells the instance, soon, that it need not keep a payload any longer."""
        self._releases.setdefault(instance, []).append((shelf, request, attempt))
        if len(self._releases[instance]) >= RELEASES:
            self.flush_releases()

    def flush_releases(self) -> None:
        """Many in one message: they are in no hurry."""
        for instance, kept in self._releases.items():
            if instance.live:
                self.send(instance, Release(instance.epoch, kept))
        self._releases.clear()

    @property
    def models(self) -> Iterator[Model]:
        """All that are known."""
        return iter(self.registry.models.values())

    def call(self, model: Model, role: Role) -> None:
        """Somebody who waits there may get what he waits for."""
        self.calls[model, role] = None

    def stir(self, instance: Instance) -> None:
        """Has room that it had not, or lost some."""
        self.stirred[instance] = None

    def next_question(self) -> int:
        self._questions += 1
        return self._questions

    def next_generation(self) -> int:
        self._generation += 1
        return self._generation
