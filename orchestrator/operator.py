"""What an operator asks of instances, from the front door to the core and back."""

import asyncio
import itertools
from collections.abc import Iterable

from orchestrator.control import Control
from orchestrator.core.commands import Answers
from orchestrator.core.events import AskInstances
from transfer.actions import Action, LoadLora, UnloadLora, UpdateWeights
from transfer.messages import DENOISES, ROLES, Role

MAX_QUESTIONS = 64  # that wait for answers
ALL = "all"  # the target that is every live instance


class UnknownTarget(Exception):
    """Nobody is called so: `roles` have live instances, of these names."""

    def __init__(self, target: str, roles: dict[Role, list[str]]) -> None:
        super().__init__(f"there is no role and no instance {target}")
        self.roles = roles


class SeveralModels(Exception):
    """It is done to one model; the message says which there are."""


class NotAlone(Exception):
    """It is done to several instances, or to none; the message says so."""


class Conflict(Exception):
    """There is another adapter of that name; the message says which."""


class UnknownAdapter(Exception):
    """None of that name is loaded; the message says which are."""


class UnknownComponent(Exception):
    """The target computes with nothing of that name; the message says with what it does."""


class TooManyQuestions(Exception):
    """So many wait for answers already; nothing was asked."""


class Operator:
    """Asks, and hands each answer to whoever asked. Lives in the control channel's event loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._machine = control.machine
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answers]] = {}
        control.answered = self._hear

    async def ask(
        self, target: str, action: Action, timeout_s: float, model: str | None = None
    ) -> Answers:
        """What each instance of a role, or the one of that name, answers; within `timeout_s`, also
        where an instance does not. `model`: only of this one.

        Raises `UnknownTarget` and `TooManyQuestions`, of adapters `SeveralModels`, `NotAlone`,
        `Conflict` and `UnknownAdapter`, and of weights `SeveralModels`, `NotAlone` and
        `UnknownComponent`; then nothing was asked.
        Who stops waiting changes nothing: what is asked for goes on.
        """
        names = self._names(target, model)
        if isinstance(action, LoadLora | UnloadLora):
            self._check(target, names, action)
        if isinstance(action, UpdateWeights):
            self._check_components(names, action)
        if self._machine.questions >= MAX_QUESTIONS:
            raise TooManyQuestions
        number = next(self._numbers)
        future: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._control.post(AskInstances(number, names, action, timeout_s))
            return await future
        finally:
            del self._waiting[number]

    def _names(self, target: str, model: str | None) -> list[str]:
        """A role comes before an instance of that name."""
        roles = {role: self._machine.roster(role, model) for role in ROLES}
        known = {role: names for role, names in roles.items() if names}
        if names := known.get(target):  # type: ignore[call-overload]
            return list(names)
        if target == ALL and known:
            return list(dict.fromkeys(name for each in known.values() for name in each))
        if any(target in names for names in known.values()):
            return [target]
        raise UnknownTarget(target, known)

    def _check(self, target: str, names: list[str], action: LoadLora | UnloadLora) -> None:
        denoise = {name for role in DENOISES for name in self._machine.roster(role)}
        if not denoise & set(names):
            return  # they will say that they have no use for it
        model = self._model_of(name for name in names if name in denoise)
        denoise = {name for role in DENOISES for name in self._machine.roster(role, model)}
        if target in denoise and target not in ROLES and len(denoise) > 1:
            text = f"all that denoise have the same adapters ({', '.join(sorted(denoise))})"
            raise NotAlone(f"{text}; name their role")
        known = self._machine.adapters(model)
        there = known.get(action.name)
        if isinstance(action, UnloadLora) and there is None:
            loaded = ", ".join(known) or "none"
            raise UnknownAdapter(f"there is no adapter {action.name!r}; loaded: {loaded}")
        if isinstance(action, LoadLora) and there is not None and there.path != action.path:
            text = f"adapter {action.name!r} is loaded, of {there.path}"
            raise Conflict(f"{text}; unload it first, or give this one another name")

    def _check_components(self, names: list[str], action: UpdateWeights) -> None:
        """Who shares a component with the target gets its weights, too; but of instances that do
        the same, none is changed alone."""
        parts = self._machine.parts(names)
        if not parts:
            return  # they will say that theirs stay
        model = self._model_of(name for name in names if self._machine.parts([name]))
        if unknown := set(action.components) - parts:
            text = f"{', '.join(sorted(unknown))}: the target computes with {sorted(parts)}"
            raise UnknownComponent(text)
        for role in ROLES:
            those = set(self._machine.roster(role, model))
            if those & set(names) and (others := those - set(names)):
                text = f"every {role} has the same weights ({', '.join(sorted(others))} too)"
                raise NotAlone(f"{text}; name the role")

    def _model_of(self, names: Iterable[str]) -> str:
        models = self._machine.models_of(names)
        if len(models) > 1:
            raise SeveralModels(f"these are of several models ({', '.join(models)})")
        return models[0]

    def _hear(self, answers: Answers) -> None:
        future = self._waiting.get(answers.number)
        if future is not None and not future.done():
            future.set_result(answers)
