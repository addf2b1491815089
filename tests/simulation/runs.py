"""Runs seeds of the simulation, and tells the story of one that failed."""

import gc
import hashlib
import subprocess
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.core.events import Received
from tests.simulation.world import World

STEPS = 600
CHUNK = 25  # seeds that one process takes at a time
TOLD = 60  # of the last events
YOUNG = 20_000  # objects, after which a process looks for garbage


@dataclass(frozen=True)
class Failure:
    """A seed whose invariants did not hold."""

    seed: int
    error: str


class Recorded(World):
    """A world that remembers what happened last, and a digest of everything."""

    def __init__(self, seed: int) -> None:
        self.digest = hashlib.sha256()
        self.latest: deque[str] = deque(maxlen=TOLD)
        super().__init__(seed)

    def heard(self, event: object) -> None:
        what = event.message if isinstance(event, Received) else event
        line = f"{self.now:9.3f} {what!r}"
        self.digest.update(line.encode())
        self.latest.append(line[:400])


def live(world: World, steps: int = STEPS) -> None:
    """Safety, then liveness. Raises what does not hold."""
    for _ in range(steps):
        world.step()
    world.quiesce()
    world.assert_home()


def first_failure(seeds: range, steps: int = STEPS) -> Failure | None:
    for seed in seeds:
        try:
            live(World(seed), steps)
        except Exception as error:
            return Failure(seed, f"{type(error).__name__}: {error}")
    return None


def failures(
    seeds: range,
    processes: int,
    first: Callable[[range], Failure | None] = first_failure,
) -> Iterator[Failure]:
    """One for each chunk of seeds in which something failed; `first` runs a chunk."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    if processes == 1:
        yield from filter(None, map(first, chunks))
        return
    with ProcessPoolExecutor(processes, initializer=_look_seldom) as pool:
        yield from filter(None, pool.map(first, chunks))


def _look_seldom() -> None:
    """For garbage among what is imported: there is none, and a world has little."""
    gc.freeze()
    gc.set_threshold(YOUNG)


def story(seed: int) -> str:
    """The same run once more, with its last events and the requests that were under way."""
    world = Recorded(seed)
    try:
        live(world)
    except Exception:
        failed = traceback.format_exc(limit=-4)
        requests = world.orchestrator.machine.books.ledger.active.values()
        told = "\n".join(request.tell() for request in requests)
        head = f"seed {seed} at commit {commit()}"
        return "\n".join([head, *world.latest, "", told, "", failed])
    return f"seed {seed} holds at commit {commit()}"


def digest(seed: int) -> str:
    """Of everything that happened in a run: two runs of a seed have the same."""
    world = Recorded(seed)
    live(world)
    return world.digest.hexdigest()


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    root = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    return done.stdout.strip() or "unknown"
