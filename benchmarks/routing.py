"""Two denoisers behind the real core: until when 60 requests of mixed sizes are done (V13).

Part of `benchmarks.mixed_load`. Nothing is computed: a request takes the seconds that its size
takes alone, each instance works on its requests one after the other, and the clock is simulated.
So what differs is only who was given what.
"""

import heapq
import random
import statistics
from collections.abc import Callable

from orchestrator.core.commands import Command, Send
from orchestrator.core.config import Config
from orchestrator.core.events import Event, Received, Submit
from orchestrator.core.machine import Machine
from tests.support.bench import PICTURE, register
from transfer.messages import Finished, Inputs, StageReport, Welcome, Work

POLICIES = ("round_robin", "least_loaded", "least_backlog")
STORIES, REQUESTS = 25, 60
GAP_S = 0.001  # between two submissions

Seconds = Callable[[int, int], float]
Drawn = Callable[[random.Random], tuple[int, int]]


class Pair:
    """Monolithic instances, so that a request is one stage."""

    def __init__(self, policy: str, seconds: Seconds, places: int) -> None:
        self._machine = Machine(Config(policy=policy, max_queue=REQUESTS, heartbeat_s=1e9))
        self._seconds = seconds
        self._now = 0.0
        self._epochs: dict[bytes, int] = {}
        self._free = {b"a": 0.0, b"b": 0.0}  # when each has done what it has
        self._ends: list[tuple[float, int, bytes, Work]] = []
        for name in self._free:
            info = register(name.decode(), "monolithic", capacity=places, slots=2 * places)
            self._do(Received(name, info))

    def run(self, kinds: list[tuple[int, int]]) -> float:
        """Seconds from the first submission to the last end."""
        began = self._now
        for number, (side, steps) in enumerate(kinds):
            self._until(began + number * GAP_S)
            params = {"prompt": "x", "width": side, "height": side, "num_inference_steps": steps}
            self._do(Submit(f"r{number}", Inputs(dict(params), 1), 1e9))
        self._until(float("inf"))
        self._now = max(self._free.values())
        return self._now - began

    def _until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            self._now, _, connection, work = heapq.heappop(self._ends)
            about = (self._epochs[connection], work.request, work.attempt, work.role)
            steps, seconds = self._cost(work)
            report = StageReport(compute_s=seconds, steps=steps, busy_s=seconds)
            self._do(Received(connection, Finished(*about, [PICTURE], report)))
        if at != float("inf"):
            self._now = max(self._now, at)

    def _cost(self, work: Work) -> tuple[int, float]:
        side, steps = (work.inputs.params[name] for name in ("width", "num_inference_steps"))
        assert isinstance(side, int)
        assert isinstance(steps, int)
        return steps, self._seconds(side, steps)

    def _do(self, event: Event) -> None:
        for command in self._machine.handle(event, self._now):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Send(connection, Welcome(epoch=epoch)):
                self._epochs[connection] = epoch
            case Send(connection, Work() as work):
                end = max(self._now, self._free[connection]) + self._cost(work)[1]
                self._free[connection] = end
                heapq.heappush(self._ends, (end, len(self._ends), connection, work))


def makespan(seconds: Seconds, drawn: Drawn, places: int) -> dict[str, float]:
    """By policy: the median over the stories, which are the same for each."""
    dice = [random.Random(number) for number in range(1 + STORIES)]
    stories = [[drawn(each) for _ in range(REQUESTS)] for each in dice]
    return {policy: _median(Pair(policy, seconds, places), stories) for policy in POLICIES}


def _median(pair: Pair, stories: list[list[tuple[int, int]]]) -> float:
    """The first story is for learning."""
    return statistics.median([pair.run(story) for story in stories][1:])
