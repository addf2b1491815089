"""What all ranks of an instance have, weights, adapters or sleep, and how new ranks get it."""

import logging
from collections.abc import Awaitable, Callable

from roles.calls import Act, Call
from roles.leader.pool import Results
from transfer.actions import (
    Adapter,
    Change,
    LoadLora,
    LoraLoaded,
    PutWeights,
    Sleep,
    UnloadLora,
    UpdateWeights,
    Wake,
    Weights,
    WeightsUpdated,
)

log = logging.getLogger(__name__)

LOAD_S = 300.0  # for one adapter
READ_S = 3600.0  # for weights: some lie on slow disks
SLEEP_S = 300.0
UNKNOWN = "?"  # the digest of weights that are being changed


class Fittings:
    """What the orchestrator is told of: of an adapter that is `changing`, nothing; of weights that
    are, that nobody knows which; ranks that fall asleep or wake up sleep. `asleep`: the level at
    which they do; 0: they are awake."""

    def __init__(self) -> None:
        self.changing: Change | None = None
        self.asleep = 0
        self._held: dict[str, Adapter] = {}
        self._weights: dict[str, Weights] = {}  # other ones than the model's own

    @property
    def adapters(self) -> list[Adapter]:
        loading = isinstance(self.changing, LoadLora | UnloadLora)
        name = self.changing.name if loading else None  # type: ignore[union-attr]
        return [each for each in self._held.values() if each.name != name]

    @property
    def weights(self) -> list[Weights]:
        unknown = {name: Weights(name, "", UNKNOWN) for name in _components(self.changing)}
        return list((self._weights | unknown).values())

    @property
    def sleeps(self) -> bool:
        return self.asleep > 0 or isinstance(self.changing, Sleep)

    def has(self, action: LoadLora) -> bool:
        """This very one is loaded."""
        known = self._held.get(action.name)
        return known is not None and known.path == action.path

    def back(self, action: Change) -> Change | None:
        """What undoes it in ranks of which some have done it; None if it was so before."""
        match action:
            case Sleep():
                return None if self.asleep else Wake()
            case Wake():
                return Sleep(2 if self.asleep == 2 else 1) if self.asleep else None
            case UpdateWeights() | PutWeights():
                names = _components(action)
                return PutWeights([self._weights.get(name, Weights(name)) for name in names])
        before = self._held.get(action.name)
        if before is None:
            return UnloadLora(action.name)
        if isinstance(action, LoadLora):
            return None
        return LoadLora(before.name, before.path, before.scale)

    def note(self, action: Change, result: Results) -> None:
        """All ranks did it."""
        value = result.first.value
        if isinstance(action, Sleep | Wake):
            self.asleep = action.level if isinstance(action, Sleep) else 0
        elif isinstance(value, WeightsUpdated):
            for each in value.weights:
                self._weights.pop(each.component, None)
                if each.path:
                    now = Weights(each.component, each.path, each.digest)
                    self._weights[each.component] = now
        elif isinstance(action, LoadLora) and isinstance(value, LoraLoaded):
            held = Adapter(action.name, action.path, action.scale, value.lora.digest)
            self._held[action.name] = held
        elif isinstance(action, UnloadLora):
            self._held.pop(action.name, None)

    def clear(self) -> None:
        """New ranks shall come with nothing."""
        self._held.clear()
        self._weights.clear()
        self.asleep = 0

    async def refit(self, call: Callable[[Call, float], Awaitable[Results]]) -> None:
        """Gives ranks that are new what those before them had. What they cannot load, they are
        without, and the orchestrator decides."""
        if self._weights:
            result = await call(Act(PutWeights(list(self._weights.values()))), READ_S)
            if not result.ok:
                log.error("the new ranks have the model's own weights: %s", result)
                self._weights.clear()
        for held in list(self._held.values()):
            result = await call(Act(LoadLora(held.name, held.path, held.scale)), LOAD_S)
            if not result.ok:
                log.error("the new ranks are without adapter %s: %s", held.name, result)
                self._held.pop(held.name, None)

    async def rest(self, call: Callable[[Call, float], Awaitable[Results]]) -> Results | None:
        """Has ranks that are new sleep as those before them did; None: they were awake. From ranks
        that cannot, nobody knows which do: they have to go, and the next ones come awake."""
        if not self.asleep:
            return None
        result = await call(Act(Sleep(2 if self.asleep == 2 else 1)), SLEEP_S)
        if not result.ok:
            self.asleep = 0
        return result


def _components(action: Change | None) -> list[str]:
    """Those whose weights it changes."""
    match action:
        case UpdateWeights(components=components):
            return components
        case PutWeights(weights=weights):
            return [each.component for each in weights]
    return []
