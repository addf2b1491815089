"""Operators of a simulated cluster: they ask at any time, and every question has to be answered."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.core.commands import Answers
from orchestrator.core.events import AskInstances
from transfer.actions import (
    Action,
    Health,
    HealthReport,
    LoadLora,
    LoraFile,
    LoraLoaded,
    LoraUnloaded,
    PutWeights,
    Sleep,
    Slept,
    Told,
    UnloadLora,
    UpdateWeights,
    Wake,
    Weights,
    WeightsFile,
    WeightsUpdated,
    Woken,
)
from transfer.messages import Lora

NOBODY = "nobody-0"
SHARED = "all"
"""A component that every role computes with, so that a request shows if its weights have changed
under way."""
PARTS = {"encoder": ["text"], "denoiser": ["net"], "decoder": ["vae"]}
ADAPTABLE = {"text", "net"}
"""The parts that adapters may change."""
PATHS = ["/w1", "/w2", "/w3"]
"""Where other weights are."""
VALUES: dict[type[Action], type[Told]] = {
    Health: HealthReport,
    LoadLora: LoraLoaded,
    UnloadLora: LoraUnloaded,
    Sleep: Slept,
    Wake: Woken,
    UpdateWeights: WeightsUpdated,
}


class Refusal(RuntimeError):
    """A scripted rank was asked for what it does not do."""


class Asleep(Refusal):
    """Not now."""


class NotAdaptable(Refusal):
    """Adapters change nothing of what it computes with."""


@dataclass
class Held:
    """What a scripted rank has: adapters, name and digest; the level at which it sleeps; the
    weights of its parts, where they are not the model's own."""

    loaded: dict[str, str] = field(default_factory=dict)
    level: int = 0
    parts: list[str] = field(default_factory=list)
    weights: dict[str, Weights] = field(default_factory=dict)

    @property
    def shared(self) -> str:
        """With which weights it computes."""
        return self.weights[SHARED].digest if SHARED in self.weights else ""

    @property
    def adaptable(self) -> list[str]:
        return [part for part in self.parts if part in ADAPTABLE]

    def worn(self, loras: Iterable[Lora]) -> str | None:
        """With which adapters it computes for who has these on; None: one of them is not here."""
        if any(lora.name not in self.loaded for lora in loras):
            return None
        return ",".join(self.loaded[lora.name] for lora in loras)

    def lacks(self, wanted: dict[str, Weights]) -> list[str]:
        """The parts whose weights are other ones."""
        mine, theirs = ({x: y.get(x) for x in self.parts} for y in (self.weights, wanted))
        return [part for part in self.parts if mine[part] != theirs[part]]


def parts_of(roles: Iterable[str]) -> list[str]:
    own = (part for role in roles for part in PARTS.get(role, ["text", "net", "vae"]))
    return [*own, SHARED]


def do(action: Action, held: Held) -> Told:
    """What a scripted rank does. Raises `Refusal`."""
    loaded = held.loaded
    match action:
        case LoadLora() | UnloadLora() | UpdateWeights() | PutWeights() if held.level:
            raise Asleep(f"{action} of one that sleeps")
        case LoadLora() | UnloadLora() if not held.adaptable:
            raise NotAdaptable(f"{action} of one that adapters change nothing of")
        case LoadLora(name, path):
            fresh, loaded[name] = name not in loaded, f"of {path}"
            return LoraLoaded(LoraFile(name, path, loaded[name], 1, []), fresh)
        case UnloadLora(name):
            return LoraUnloaded(name, loaded.pop(name, None) is not None)
        case Sleep(level) if held.level not in (0, level):
            raise Asleep(f"level {level} of one that sleeps at {held.level}")
        case Sleep(level):
            fresh, held.level = not held.level, level
            return Slept(level, fresh, 0, 0)
        case Wake():
            before, held.level = held.level, 0
            return Woken(before, 0)
        case UpdateWeights(path, components=components):
            return put([Weights(x, path, f"of {path}") for x in components], held)
        case PutWeights(weights):
            return put(weights, held)
    return HealthReport("cpu", None, True, 0, 1)


def put(weights: Iterable[Weights], held: Held) -> WeightsUpdated:
    mine = [each for each in weights if each.component in held.parts]
    for each in mine:
        held.weights.pop(each.component, None)
        if each.digest:
            held.weights[each.component] = each
    return WeightsUpdated([WeightsFile(x.component, x.path, x.digest, 1) for x in mine], True)


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
        action = self._action()
        event = AskInstances(self._count, some, action, self.dice.choice([0.1, 1.0, 20.0]))
        self._open[event.number] = (event, now + event.seconds)
        return event

    def _action(self) -> Action:
        """Two adapters come and go; each time with other contents."""
        name, chance = self.dice.choice("ab"), self.dice.random()
        if chance < 0.25:
            return Health()
        if chance < 0.29:
            components = self.dice.choice([[], [SHARED], ["net"], ["text"]])
            return UpdateWeights(self.dice.choice(PATHS), components=components)
        if chance < 0.33:
            return Sleep(self.dice.choice([1, 2]))
        if chance < 0.45:
            return Wake()
        if chance < 0.6:
            return UnloadLora(name)
        return LoadLora(name, f"/{name}", 1.0)

    def wears(self, offered: Iterable[str]) -> list[Lora]:
        """What a new request has on."""
        return [Lora(name) for name in offered if self.dice.random() < 0.5]

    def answered(self, told: Answers, now: float, slack_s: float) -> None:
        """`slack_s`: how late the orchestrator's clock may be."""
        if told.number not in self._open:
            self._wrong(f"question {told.number} is answered, and nobody waits for that")
            return
        asked, due = self._open.pop(told.number)
        if isinstance(asked.action, Health) and list(told.instances) != asked.names:
            self._wrong(f"{asked.names} were asked, and {list(told.instances)} have answered")
        if now > due + slack_s:
            self._wrong(f"question {told.number} is answered {now - due:.2f} s too late")
        for answer in told.instances.values():
            self.kinds[answer.error.kind if answer.error else "answered"] += 1
            for rank in answer.result.results:
                mine = isinstance(rank.value, VALUES[type(asked.action)])
                if rank.ok != mine or rank.ok != (rank.error is None):
                    self._wrong(f"question {told.number} is answered with {rank}")

    def lost(self) -> None:
        """The orchestrator has died, and those who asked it know."""
        self._open.clear()

    def overdue(self, now: float) -> list[str]:
        """What should have been answered by now."""
        late = [number for number, (_, due) in self._open.items() if due < now]
        return [f"question {number} has no answer" for number in late]
