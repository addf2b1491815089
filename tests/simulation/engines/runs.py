"""Runs seeds of real leaders, and tells the story of one that failed."""

import hashlib
import traceback
from collections import deque

from orchestrator.core.events import Received, Tick
from tests.simulation.engines.seams import seams
from tests.simulation.engines.world import World
from tests.simulation.runs import Failure, commit
from transfer.messages import Beat, Heartbeat

TOLD = 80  # of the last events
SHOWN = 600  # characters of each


class Recorded(World):
    """A world that remembers what happened last, and a digest of everything."""

    def __init__(self, seed: int) -> None:
        self.digest = hashlib.sha256()
        self.latest: deque[str] = deque(maxlen=TOLD)
        super().__init__(seed)

    def note(self, who: object, what: object) -> None:
        shown = what.message if isinstance(what, Received) else what
        line = f"{self.loop.now:9.4f} {who!s:14} {shown!r}"
        self.digest.update(line.encode())
        if not isinstance(shown, Beat | Heartbeat | Tick):
            self.latest.append(line[:SHOWN])


def live(world: World) -> None:
    """Raises what does not hold."""
    with seams(world):
        world.run()


def first_failure(seeds: range) -> Failure | None:
    for seed in seeds:
        try:
            live(World(seed))
        except Exception as error:
            return Failure(seed, f"{type(error).__name__}: {error}")
    return None


def story(seed: int) -> str:
    """The same run once more, with its last events and the requests that were under way."""
    world = Recorded(seed)
    try:
        live(world)
    except Exception:
        failed = traceback.format_exc(limit=-4)
        head = f"seed {seed} at commit {commit()}"
        return "\n".join([head, *world.latest, "", *world.stories(), "", failed])
    return f"seed {seed} holds at commit {commit()}: {dict(world.results)}"


def digest(seed: int) -> str:
    """Of everything that happened in a run: two runs of a seed have the same."""
    world = Recorded(seed)
    live(world)
    return world.digest.hexdigest()
