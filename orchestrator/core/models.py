"""One model behind the front door: its instances, those who wait for them, and what they learned.

Several models can share an orchestrator. Whatever must never cross from one to another hangs here:
a request has a model, so has an instance, and who looks for a place looks among its own model's.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.core.attempts import Attempt, State
from orchestrator.core.config import Config
from orchestrator.core.forecast import Forecast
from orchestrator.core.instances import Instance, Key
from orchestrator.core.lines import Line
from orchestrator.core.policies import POLICIES
from orchestrator.core.queues import Queue
from orchestrator.core.rosters import Roster
from transfer.actions import Adapter, Weights
from transfer.messages import DENOISES, ROLES, SPLIT_ROUTE, ModelInfo, Role

if TYPE_CHECKING:
    from orchestrator.core.kinds import Change

MONOLITHIC: tuple[Role, ...] = ("monolithic",)
RECENT = 32  # payloads of a role
PACE = 64  # results


class Model:
    """What is known of one model, under the `name` that requests call it by.

    `live` are its instances, `lost` the names of those that are shown as lost. `whole`: its route
    was complete once since the first of them came. `aliases`: what their folders are called, where
    that is another name.

    `lines` are the attempts that wait for room in each role, by class. `wary` are lines for those
    that failed at some instance before and look for another one: they go first, and the others do
    not wait for them. `due`: attempts of which a preview is to be made as soon as a decoder has
    nothing else to do. `active` counts the requests whose clients wait, `queued` those of them that
    wait for their first role, `ended` the others by outcome.

    `changes` of adapters and weights are in line. `adapters` are those that all its denoisers are
    to have, of which one may be `leaving`; `weights` what components are to compute with, where
    those are not the model's own; of those that are in `weights_known`, no instance is believed to
    know better.
    """

    def __init__(self, info: ModelInfo, config: Config) -> None:
        policy = POLICIES[config.policy]
        self.name = info.name
        self.info = info
        self.rosters: dict[Role, Roster] = {
            role: Roster(role, config.declared.get(role, []), policy, config.max_places)
            for role in ROLES
        }
        self.live: dict[Key, Instance] = {}
        self.lost: set[str] = set()
        self.aliases: set[str] = set()
        self.whole = False
        self.lines: dict[Role, Queue] = {role: Queue() for role in ROLES}
        self.wary: dict[Role, Queue] = {role: Queue() for role in ROLES}
        self.due: Line[Attempt] = Line()
        self.active = self.queued = 0
        self.ended = {State.COMPLETED: 0, State.FAILED: 0, State.CANCELLED: 0}
        self._ends: deque[float] = deque(maxlen=PACE)
        self.changes: deque[Change] = deque()
        self._begin()

    def _begin(self) -> None:
        """Nothing was learned of it, and nothing was changed."""
        self.forecast = Forecast()
        self.adapters: dict[str, Adapter] = {}
        self.adapters_changed = False  # by an operator, in this life
        self.leaving: str | None = None
        self.weights: dict[str, Weights] = {}
        self.weights_known: set[str] = set()
        self._sizes: dict[Role, deque[int]] = {role: deque(maxlen=RECENT) for role in ROLES}

    def __repr__(self) -> str:
        return f"model {self.name}"

    # ------------------------------------------------------------ who is there

    @property
    def present(self) -> bool:
        """It has an instance, or one that is shown as lost."""
        return bool(self.live or self.lost)

    @property
    def forgettable(self) -> bool:
        """Nobody would miss it."""
        return not (self.present or self.active or self.changes)

    def enter(self, instance: Instance) -> None:
        """A new instance of it is live from now on. The first one says what the model is; those
        that denoise say what they make of it."""
        said = instance.info.model
        if not self.live:
            if said.fingerprint != self.info.fingerprint:
                self._begin()  # other weights under the same name
            self.info = replace(said, name=self.name)
        elif DENOISES & set(instance.info.roles):
            self.info = replace(self.info, speed=said.speed, step_caches=said.step_caches)
        if said.name != self.name:
            self.aliases.add(said.name)
        self.live[instance.key] = instance

    def leave(self, instance: Instance, shown: bool) -> None:
        """It is not live any more. `shown`: as lost."""
        del self.live[instance.key]
        if shown:
            self.lost.add(instance.name)
        self._retire()

    def forget(self, name: str) -> None:
        """A lost instance is not shown any more."""
        self.lost.discard(name)
        self._retire()

    def _retire(self) -> None:
        """If nobody of it is left, the next one begins anew."""
        if not self.present:
            self.whole = False
            self.aliases.clear()

    # ------------------------------------------------------------ its route

    def route(self) -> tuple[Role, ...]:
        """The split route, unless only the whole pipeline in one instance is there."""
        rosters = self.rosters
        if all(rosters[role].available for role in SPLIT_ROUTE):
            return SPLIT_ROUTE
        split = any(rosters[role].live for role in SPLIT_ROUTE)
        if rosters["monolithic"].available or (rosters["monolithic"].live and not split):
            return MONOLITHIC
        return SPLIT_ROUTE

    def missing(self) -> list[Role]:
        """The roles of the route that have no ready instance."""
        return [role for role in self.route() if not self.rosters[role].available]

    def asleep(self) -> list[Role]:
        """Those of them that have an instance which sleeps, and could be woken."""
        roles = {role for x in self.live.values() if x.state == "sleeping" for role in x.info.roles}
        return [role for role in self.missing() if role in roles]

    # ------------------------------------------------------------ who waits, and for how long

    def waiting(self, role: Role) -> tuple[Queue, Queue]:
        """Those who wait for room in a role, those first who go first."""
        return self.wary[role], self.lines[role]

    def queues(self) -> Iterator[Queue]:
        yield from self.lines.values()
        yield from self.wary.values()

    def close(self, state: State, now: float) -> None:
        """One of its requests is over."""
        self.active -= 1
        self.ended[state] += 1
        self._ends.append(now)

    def retry_after(self) -> float:
        """Seconds in which the queue will have moved on, from the pace of the latest results."""
        if len(self._ends) < 2:
            return 1.0
        pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(60.0, max(1.0, pace * self.queued))

    # ------------------------------------------------------------ what it is like

    def learn(self, role: Role, nbytes: int) -> None:
        """How large the payloads are that this role makes."""
        self._sizes[role].append(nbytes)

    def expect(self, role: Role) -> int:
        """The largest recent payload of this role, in bytes; 0 before the first one."""
        return max(self._sizes[role], default=0)
