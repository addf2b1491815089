"""What an operator asks of instances, from the front door to the core and back."""

import asyncio
import itertools

from orchestrator.control import Control
from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.events import AskInstances
from transfer.actions import Action
from transfer.messages import ROLES, Role

MAX_QUESTIONS = 64  # that wait for answers


class UnknownTarget(Exception):
    """Nobody is called so: `roles` have live instances, of these names."""

    def __init__(self, target: str, roles: dict[Role, list[str]]) -> None:
        super().__init__(f"there is no role and no instance {target}")
        self.roles = roles


class TooManyQuestions(Exception):
    """So many wait for answers already; nothing was asked."""


class Operator:
    """Asks, and hands each answer to whoever asked. Lives in the control channel's event loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._machine = control.machine
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, InstanceAnswer]]] = {}
        control.answered = self._hear

    async def ask(self, target: str, action: Action, timeout_s: float) -> dict[str, InstanceAnswer]:
        """What each instance of a role, or the one of that name, answers; within `timeout_s`, also
        where an instance does not.

        Raises `UnknownTarget` and `TooManyQuestions`. Who stops waiting changes nothing: what is
        asked for goes on.
        """
        names = self._names(target)
        if len(self._waiting) >= MAX_QUESTIONS:
            raise TooManyQuestions
        number = next(self._numbers)
        future: asyncio.Future[dict[str, InstanceAnswer]]
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._control.post(AskInstances(number, names, action, timeout_s))
            return await future
        finally:
            del self._waiting[number]

    def _names(self, target: str) -> list[str]:
        """A role comes before an instance of that name."""
        roles = {role: self._machine.roster(role) for role in ROLES}
        known = {role: names for role, names in roles.items() if names}
        if names := known.get(target):  # type: ignore[call-overload]
            return list(names)
        if any(target in names for names in known.values()):
            return [target]
        raise UnknownTarget(target, known)

    def _hear(self, answers: Answers) -> None:
        future = self._waiting.get(answers.number)
        if future is not None and not future.done():
            future.set_result(answers.instances)
