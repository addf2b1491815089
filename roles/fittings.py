"""The adapters that all ranks of an instance have, and how new ranks come by them."""

import logging
from collections.abc import Awaitable, Callable

from roles.calls import Act, Call
from roles.pool import Results
from transfer.actions import Adapter, LoadLora, LoraLoaded, UnloadLora

log = logging.getLogger(__name__)

LOAD_S = 300.0  # for one adapter


class Fittings:
    """What the orchestrator is told of: of an adapter that is `changing`, nothing."""

    def __init__(self) -> None:
        self.changing: str | None = None
        self._held: dict[str, Adapter] = {}

    @property
    def adapters(self) -> list[Adapter]:
        return [each for each in self._held.values() if each.name != self.changing]

    def find(self, name: str) -> Adapter | None:
        return self._held.get(name)

    def note(self, action: LoadLora | UnloadLora, result: Results) -> None:
        """All ranks did it."""
        value = result.first.value
        if isinstance(action, LoadLora) and isinstance(value, LoraLoaded):
            held = Adapter(action.name, action.path, action.scale, value.lora.digest)
            self._held[action.name] = held
        else:
            self._held.pop(action.name, None)

    def clear(self) -> None:
        """New ranks shall come with nothing."""
        self._held.clear()

    async def refit(self, call: Callable[[Call, float], Awaitable[Results]]) -> None:
        """Gives ranks that are new what those before them had. What they cannot load, they are
        without, and the orchestrator decides."""
        for held in list(self._held.values()):
            result = await call(Act(LoadLora(held.name, held.path, held.scale)), LOAD_S)
            if not result.ok:
                log.error("the new ranks are without adapter %s: %s", held.name, result)
                self._held.pop(held.name, None)
