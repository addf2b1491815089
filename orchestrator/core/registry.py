"""Who is registered, by name, connection, endpoint and epoch; and who is lost but not yet gone."""

from collections import OrderedDict
from itertools import islice

from msgspec.structs import replace

from orchestrator.core.config import Config
from orchestrator.core.instances import Instance, Key
from orchestrator.core.policies import POLICIES
from orchestrator.core.rosters import Roster
from orchestrator.core.slots import SlotTable
from transfer.messages import DENOISES, ROLES, ModelInfo, Register, Role

Incarnation = tuple[str, str]  # (name, incarnation)


class Registry:
    """Live instances, and what is left of others.

    `ghosts` are instances that are lost while they may still write into somebody's slots: they
    stay until their end is proved. `_attic` keeps the slot tables of lost instances into which
    somebody may still write: the same memory, if the same process registers again.
    """

    def __init__(self, config: Config) -> None:
        policy = POLICIES[config.policy]
        self.rosters: dict[Role, Roster] = {
            role: Roster(role, config.declared.get(role, []), policy, config.max_places)
            for role in ROLES
        }
        self.live: dict[Key, Instance] = {}
        self.by_name: dict[str, Instance] = {}
        self.by_endpoint: dict[str, Instance] = {}
        self.by_connection: dict[bytes, Instance] = {}
        self.ghosts: dict[Incarnation, Instance] = {}
        self.model: ModelInfo | None = None
        self._ghost_connections: dict[bytes, Instance] = {}
        self._lost: dict[str, Instance] = {}  # shown as failed
        self._attic: dict[Incarnation, SlotTable] = {}
        self._epochs: OrderedDict[str, int] = OrderedDict()
        self._max_past = config.max_past
        self._max_places = config.max_places

    def next_epoch(self, name: str, last: int) -> int:
        """Epochs of a name grow, over the lives of both sides."""
        epoch = max(self._epochs.pop(name, 0), last) + 1
        self._epochs[name] = epoch
        if len(self._epochs) > self._max_past:
            self._epochs.popitem(last=False)
        return epoch

    def slots_for(self, info: Register) -> SlotTable:
        """The table of an incarnation's slots: the old one while others may write into them."""
        table = self._attic.pop((info.name, info.incarnation), None)
        return table or SlotTable(info.pool.slots, info.pool.slot_bytes)

    def enter(self, instance: Instance) -> None:
        """A new instance is live from now on."""
        if not self.live:
            self.model = None
        self._learn(instance.info)
        self.forget(instance.name)
        self.live[instance.key] = instance
        self.by_name[instance.name] = instance
        self.by_endpoint[instance.endpoint] = instance
        self.by_connection[instance.connection] = instance
        instance.slots.owner = instance
        for role in instance.info.roles:
            capacity = instance.info.capacity[role]
            instance.posts[role] = self.rosters[role].seat(instance, capacity)

    def _learn(self, info: Register) -> None:
        """What the model is: the first live instance says it, and those that denoise say what they
        make of it."""
        if self.model is None:
            self.model = info.model
        elif DENOISES & set(info.roles):
            said = info.model
            self.model = replace(self.model, speed=said.speed, step_caches=said.step_caches)

    def leave(self, instance: Instance, gone: bool) -> None:
        """The instance is not live any more. `gone`: its process is known to write nowhere."""
        instance.live = False
        instance.slots.owner = None
        for post in instance.posts.values():
            self.rosters[post.role].leave(post, forget=gone)
        del self.live[instance.key]
        del self.by_name[instance.name]
        del self.by_endpoint[instance.endpoint]
        del self.by_connection[instance.connection]
        if not gone:
            self._lost[instance.name] = instance
            if len(self._lost) > self._max_places:
                self.forget(next(iter(self._lost)))

    def haunt(self, instance: Instance) -> None:
        """Remembers a lost instance while it may still write somewhere, or be written to."""
        key = (instance.name, instance.info.incarnation)
        if instance.borrowed:
            self.ghosts[key] = instance
            self._ghost_connections[instance.connection] = instance
        if instance.slots.leases:
            self._attic[key] = instance.slots
        self._attic = {key: table for key, table in self._attic.items() if table.leases}

    def lay(self, ghost: Instance) -> None:
        """A ghost is at rest: it has nothing to write to any more."""
        key = (ghost.name, ghost.info.incarnation)
        if self.ghosts.get(key) is ghost:
            del self.ghosts[key]
        if self._ghost_connections.get(ghost.connection) is ghost:
            del self._ghost_connections[ghost.connection]

    def ghost_at(self, connection: bytes) -> Instance | None:
        return self._ghost_connections.get(connection)

    def departed(self, name: str, epoch: int) -> list[Instance]:
        """Who of that name and epoch is lost, haunting or merely shown."""
        shown = self._lost.get(name)
        found = [ghost for ghost in self.ghosts.values() if ghost.name == name]
        if shown is not None and shown not in found:
            found.append(shown)
        return [instance for instance in found if instance.epoch == epoch]

    def knows(self, name: str) -> bool:
        return name in self.by_name or name in self._lost

    def forget(self, name: str) -> bool:
        """Shows a lost instance no longer. Its places, and its ghost, stay."""
        instance = self._lost.pop(name, None)
        if instance is None:
            return False
        for post in instance.posts.values():
            self.rosters[post.role].clear(post)
        return True

    def bury(self, instance: Instance) -> None:
        """Nothing is left of it, and nothing is shown."""
        self._attic.pop((instance.name, instance.info.incarnation), None)
        if self._lost.get(instance.name) is instance:
            self.forget(instance.name)

    def table_of(self, info: Register) -> SlotTable | None:
        """The slots that this incarnation is known by."""
        named = self.by_name.get(info.name)
        if named is not None and named.info.incarnation == info.incarnation:
            return named.slots
        return self._attic.get((info.name, info.incarnation))

    def denoises_beside(self, name: str) -> Instance | None:
        """Any live instance of another name that denoises, and is not about to leave."""
        for instance in self.live.values():
            denoises = DENOISES & set(instance.info.roles) and instance.name != name
            if denoises and instance.state not in ("draining", "closing", "closed"):
                return instance
        return None

    def other_than(self, name: str) -> Instance | None:
        """Any live instance of another name."""
        return next((x for x in islice(self.live.values(), 2) if x.name != name), None)
