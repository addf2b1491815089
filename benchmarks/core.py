"""What one event costs in the orchestrator's core, among few instances and among many.

    python -m benchmarks.core [--instances 10,100,1000,10000] [--requests N] [--json FILE]

One process, no sockets: scripted leaders answer the core's messages at once, in random order, and
each finished request makes place for the next one, so that `--requests` stay under way. In two
situations: *spread*, where the instances together have room for all requests, and *queued*, where
each instance takes two and the others wait in line. A request is six events at least: Submit,
Delivered, Accepted, Delivered, Accepted, Finished. Only `Machine.handle` is timed.

The target: an event costs at most 1.5 times as much among 1,000 instances as among 10. The sizes
take turns within one run, so that a busy machine is equally busy for each; the figure is the
median of the rounds. Python's garbage collector runs as it does in the orchestrator.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from orchestrator.core.commands import Command, Resolve, Send
from orchestrator.core.config import Config
from orchestrator.core.events import Event, Received, Submit, Tick
from orchestrator.core.machine import Machine
from transfer.codec import Message
from transfer.made import ImageMade
from transfer.messages import (
    SPLIT_ROUTE,
    Accepted,
    Delivered,
    Finished,
    Heartbeat,
    HostInfo,
    Inputs,
    Media,
    ModelInfo,
    PoolAddress,
    Push,
    RankInfo,
    Register,
    Role,
    Staged,
    StageReport,
    Welcome,
    Work,
)

TARGET = 1.5
EVENTS = 5_000  # of one round
SITUATIONS = ("spread", "queued")
MODEL = ModelInfo("bench", "Bench", "f00d", "image", [])
INPUTS = Inputs({"prompt": "a red circle"}, seed=7)
PICTURE = [Media("m", ImageMade(8, 8), "image/png", 100, endpoint="tcp://decoder:1")]
REPORT = StageReport(compute_s=0.001)
BYTES = 1000


class Cluster:
    """A machine with `instances` scripted leaders and `requests` under way. `seconds` and `events`
    grow with `run`."""

    def __init__(self, instances: int, requests: int, queued: bool) -> None:
        config = Config(heartbeat_s=1e6, max_queue=requests, max_instances=instances)
        self.machine = Machine(config)
        self.seconds = 0.0
        self.events = 0
        self.instances = instances
        self._random = random.Random(1)
        self._epochs: dict[bytes, int] = {}
        self._orders: list[tuple[bytes, Work | Push]] = []  # that were not carried out yet
        self._submitted = 0
        self._now = 0.0
        self._join(2 if queued else -(-requests // instances))
        while self._submitted < requests:
            self._submit()

    def run(self, events: int) -> float:
        """Microseconds per event, over so many of them."""
        self.seconds, self.events = 0.0, 0
        while self.events < events:
            self._carry_out(*self._next_order())
        return self.seconds / self.events * 1e6

    def beat(self) -> float:
        """Microseconds per Heartbeat."""
        connections = self._random.choices(list(self._epochs), k=1000)
        return self._time([Received(c, Heartbeat(self._epochs[c])) for c in connections])

    def tick(self) -> float:
        """Microseconds per Tick, after one that does what has gathered."""
        self._do(Tick())
        return self._time([Tick()] * 1000)

    def _time(self, events: list[Event]) -> float:
        self.seconds, self.events = 0.0, 0
        for event in events:
            self._do(event)
        return self.seconds / self.events * 1e6

    def _join(self, capacity: int) -> None:
        for index in range(self.instances):
            role = SPLIT_ROUTE[index % len(SPLIT_ROUTE)]
            name = f"{role}-{index}"
            self._do(Received(name.encode(), _register(name, role, capacity)))

    def _submit(self) -> None:
        self._submitted += 1
        self._do(Submit(f"req_{self._submitted:024}", INPUTS, 3600.0))

    def _next_order(self) -> tuple[bytes, Work | Push]:
        """Any of those that are waiting: leaders do not take turns."""
        chosen = self._random.randrange(len(self._orders))
        self._orders[chosen], self._orders[-1] = self._orders[-1], self._orders[chosen]
        return self._orders.pop()

    def _carry_out(self, connection: bytes, order: Work | Push) -> None:
        for message in _answers(order, self._epochs[connection]):
            self._do(Received(connection, message))

    def _do(self, event: Event) -> None:
        self._now += 1e-4
        began = time.perf_counter()
        commands = self.machine.handle(event, self._now)
        self.seconds += time.perf_counter() - began
        self.events += 1
        for command in commands:
            self._note(command)

    def _note(self, command: Command) -> None:
        match command:
            case Send(connection, Welcome(epoch=epoch)):
                self._epochs[connection] = epoch
            case Send(connection, Work() | Push() as order):
                self._orders.append((connection, order))
            case Resolve():
                self._submit()


def _register(name: str, role: Role, capacity: int) -> Register:
    return Register(
        name=name,
        incarnation=name,
        last_epoch=0,
        endpoint=f"tcp://{name}:1",
        roles=[role],
        capacity={role: capacity},
        model=MODEL,
        pool=PoolAddress(min(65_536, 2 * capacity + 2), 4096, 0),
        ranks=[RankInfo(0, 1, "ready")],
        host=HostInfo("host", "boot", 1, 1),
    )


def _answers(order: Work | Push, epoch: int) -> list[Any]:
    """What a leader says when it has done what it was told."""
    if isinstance(order, Push):
        role = _sender(order.grant.receiver)
        about = (epoch, order.request, order.attempt, role)
        return [Delivered(*about, order.grant.generation, BYTES, 1, REPORT)]
    about = (epoch, order.request, order.attempt, order.role)
    said: list[Message] = []
    if order.delivery is not None:
        said.append(Accepted(*about, order.delivery.generation))
    if order.last:
        said.append(Finished(*about, PICTURE, REPORT))
    elif order.grant is None:
        said.append(Staged(*about, BYTES, None, REPORT))
    else:
        said.append(Delivered(*about, order.grant.generation, BYTES, 1, REPORT))
    return said


def _sender(receiver: str) -> Role:
    return "encoder" if receiver.startswith("denoiser") else "denoiser"


def measure(sizes: list[int], requests: int, rounds: int, situation: str) -> list[dict[str, float]]:
    """A row for each number of instances: the medians, in microseconds."""
    clusters = [Cluster(size, requests, situation == "queued") for size in sizes]
    for cluster in clusters:
        cluster.run(2 * requests)  # so that requests are at all stages
    taken: list[list[float]] = [[] for _ in sizes]
    for _ in range(rounds):
        for cluster, each in zip(clusters, taken, strict=True):
            each.append(cluster.run(EVENTS))
    return [
        {
            "instances": cluster.instances,
            "event_us": statistics.median(each),
            "heartbeat_us": cluster.beat(),
            "tick_us": cluster.tick(),
        }
        for cluster, each in zip(clusters, taken, strict=True)
    ]


def table(results: dict[str, list[dict[str, float]]]) -> str:
    lines = ["| situation | instances | event | heartbeat | tick |", "|---|---:|---:|---:|---:|"]
    for situation, rows in results.items():
        for row in rows:
            cells = " | ".join(
                f"{row[name]:.1f}" for name in ("event_us", "heartbeat_us", "tick_us")
            )
            lines.append(f"| {situation} | {row['instances']:,} | {cells} |")
    return "\n".join(lines)


def growth(rows: list[dict[str, float]]) -> float | None:
    """From 10 instances to 1,000; None if they were not measured."""
    cost = {row["instances"]: row["event_us"] for row in rows}
    return cost[1000] / cost[10] if {10, 1000} <= cost.keys() else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", default="10,100,1000,10000", help="with commas")
    parser.add_argument("--requests", type=int, default=100_000, help="under way (default: 100000)")
    parser.add_argument("--rounds", type=int, default=9, help="of 5,000 events (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    sizes = [int(size) for size in options.instances.split(",")]
    results = {
        situation: measure(sizes, options.requests, options.rounds, situation)
        for situation in SITUATIONS
    }
    print(f"{describe()}; {options.requests:,} requests under way; microseconds\n")
    print(table(results))
    grown = {situation: growth(rows) for situation, rows in results.items()}
    for situation, ratio in grown.items():
        if ratio is not None:
            verdict = "reached" if ratio <= TARGET else "missed"
            print(f"\n{situation}: x{ratio:.2f} from 10 to 1,000 (target {TARGET}): {verdict}")
    if options.json:
        found = {"environment": describe(), "microseconds": results, "growth": grown}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
