"""Operators of a simulated cluster: they ask at any time, and every question has to be answered."""

import random
from collections import Counter
from collections.abc import Callable, Iterable

from orchestrator.core.commands import Answers
from orchestrator.core.events import AskInstances
from transfer.actions import Health, HealthReport

NOBODY = "nobody-0"


class Questions:
    """Numbers are used once in the life of a world. `wrong` is told what must not be."""

    def __init__(self, seed: int, wrong: Callable[[str], None]) -> None:
        self.dice = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self._open: dict[int, tuple[AskInstances, float]] = {}
        self._count = 0
        self._wrong = wrong

    def ask(self, names: Iterable[str], now: float) -> AskInstances:
        """Of some of these, or of one that is not there."""
        known = sorted(set(names)) or [NOBODY]
        some = self.dice.sample(known, self.dice.randint(1, min(3, len(known))))
        self._count += 1
        event = AskInstances(self._count, some, Health(), self.dice.choice([0.1, 1.0, 20.0]))
        self._open[event.number] = (event, now + event.seconds)
        return event

    def answered(self, told: Answers, now: float, slack_s: float) -> None:
        """`slack_s`: how late the orchestrator's clock may be."""
        if told.number not in self._open:
            self._wrong(f"question {told.number} is answered, and nobody waits for that")
            return
        asked, due = self._open.pop(told.number)
        if list(told.instances) != asked.names:
            self._wrong(f"{asked.names} were asked, and {list(told.instances)} have answered")
        if now > due + slack_s:
            self._wrong(f"question {told.number} is answered {now - due:.2f} s too late")
        for answer in told.instances.values():
            self.kinds[answer.error.kind if answer.error else "answered"] += 1
            for rank in answer.result.results:
                mine = isinstance(rank.value, HealthReport)
                if rank.ok != mine or rank.ok != (rank.error is None):
                    self._wrong(f"question {told.number} is answered with {rank}")

    def lost(self) -> None:
        """The orchestrator has died, and those who asked it know."""
        self._open.clear()

    def overdue(self, now: float) -> list[str]:
        """What should have been answered by now."""
        late = [number for number, (_, due) in self._open.items() if due < now]
        return [f"question {number} has no answer" for number in late]
