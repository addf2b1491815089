"""Who is registered, by model, name, connection, endpoint and epoch; and who is lost but not yet
gone."""

from collections import OrderedDict

from orchestrator.core.config import Config
from orchestrator.core.instances import Instance, Key
from orchestrator.core.models import Model
from orchestrator.core.slots import SlotTable
from transfer.messages import DENOISES, ModelInfo, Register

Incarnation = tuple[str, str]  # (name, incarnation)


class Registry:
    """Live instances, and what is left of others.

    `models` are those that were registered, by name, in the order in which they first were; of one
    that nobody has any more it is still known what it was, so that requests for it are not told
    that there never was one. Names, endpoints and connections are unique over all models.
    `ghosts` are instances that are lost while they may still write into somebody's slots: they
    stay until their end is proved. `_attic` keeps the slot tables of lost instances into which
    somebody may still write: the same memory, if the same process registers again.
    """

    def __init__(self, config: Config) -> None:
        self.models: dict[str, Model] = {}
        self.live: dict[Key, Instance] = {}
        self.by_name: dict[str, Instance] = {}
        self.by_endpoint: dict[str, Instance] = {}
        self.by_connection: dict[bytes, Instance] = {}
        self.ghosts: dict[Incarnation, Instance] = {}
        self._config = config
        self._latest: Model | None = None  # of those whose last instance has left
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

    # ------------------------------------------------------------ models

    def find_model(self, name: str) -> Model | None:
        """The model of that name, or the one of which an instance calls it so."""
        models = self.models.values()
        return self.models.get(name) or next((x for x in models if name in x.aliases), None)

    def model_of(self, info: ModelInfo) -> Model | None:
        """Whose instance this is: that of its name, or, where the name is only that of its folder,
        the one that has the same files under another name. None: nobody's who is known."""
        if info.named:
            return self.models.get(info.name)
        same = (x for x in self.models.values() if x.info.fingerprint == info.fingerprint)
        return self.find_model(info.name) or next((x for x in same if x.present), None)

    def take_in(self, info: ModelInfo) -> Model:
        """The model that a new instance belongs to; those that nobody misses make room for it."""
        model = self.model_of(info)
        if len(self.beside(info)) + 1 >= self._config.max_models:
            self._forget_all_but(model)
        if model is None:
            if len(self.models) >= self._config.max_known_models:
                del self.models[next(x.name for x in self.models.values() if x.forgettable)]
            model = self.models[info.name] = Model(info, self._config)
        return model

    def _forget_all_but(self, model: Model | None) -> None:
        """Instances that were lost, of models whose turn is over."""
        gone = [x for x in self.models.values() if x is not model and not x.live]
        for name in [name for each in gone for name in each.lost]:
            self.forget(name)

    @property
    def can_know_more(self) -> bool:
        """There is room for one more model, or one of those that are known could make it."""
        known = self.models.values()
        return len(known) < self._config.max_known_models or any(x.forgettable for x in known)

    def beside(self, info: ModelInfo) -> list[Model]:
        """The other models that have live instances."""
        own = self.model_of(info)
        return [model for model in self.models.values() if model.live and model is not own]

    @property
    def served(self) -> list[Model]:
        """Those that have instances, or lost ones; without any, the one that had some last."""
        present = [model for model in self.models.values() if model.present]
        return present or [model for model in (self._latest,) if model is not None]

    @property
    def usual(self) -> Model | None:
        """What a request means that names none: what was declared; else the only one, of those that
        could once be used, if there are such. None: it has to say."""
        if self._config.default_model is not None:
            return self.models.get(self._config.default_model)
        served = self.served
        candidates = [model for model in served if model.whole] or served
        return candidates[0] if len(candidates) == 1 else None

    # ------------------------------------------------------------ instances

    def enter(self, instance: Instance) -> None:
        """A new instance is live from now on."""
        self.forget(instance.name)
        instance.model.enter(instance)
        self.live[instance.key] = instance
        self.by_name[instance.name] = instance
        self.by_endpoint[instance.endpoint] = instance
        self.by_connection[instance.connection] = instance
        instance.slots.owner = instance
        for role in instance.info.roles:
            capacity = instance.info.capacity[role]
            instance.posts[role] = instance.model.rosters[role].seat(instance, capacity)

    def leave(self, instance: Instance, gone: bool) -> None:
        """The instance is not live any more. `gone`: its process is known to write nowhere."""
        instance.live = False
        instance.slots.owner = None
        for post in instance.posts.values():
            instance.model.rosters[post.role].leave(post, forget=gone)
        self._latest = instance.model
        instance.model.leave(instance, shown=not gone)
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
        instance.model.forget(name)
        for post in instance.posts.values():
            instance.model.rosters[post.role].clear(post)
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

    def denoises_beside(self, name: str, model: Model) -> Instance | None:
        """Any live instance of another name that denoises, and is not about to leave."""
        for instance in model.live.values():
            denoises = DENOISES & set(instance.info.roles) and instance.name != name
            if denoises and instance.state not in ("draining", "closing", "closed"):
                return instance
        return None

    def other_than(self, name: str, model: Model) -> Instance | None:
        """Any live instance of another name."""
        return next((x for x in model.live.values() if x.name != name), None)
