"""How fast payloads move between two processes of one machine, against what they are made of.

    python -m benchmarks.transfer [--repeats N] [--sizes MIB,MIB] [--json FILE]

Per size, all in one run and in turn, so that a busy machine is equally busy for each:
- memcpy: `numpy.copyto` between two warm buffers of this process;
- shm: `Transport.send` into another process's slots through shared memory, from the call until it
  returns (target: at least 0.8 of memcpy's speed);
- direct: Mooncake's own calls from the same memory into the same slots, the better of its
  synchronous write and of submitting and polling without a pause;
- mooncake: `Transport.send` through Mooncake (target: at least 0.95 of direct);
- pack: a torch tensor into the outbox, checksum included; unpack: out of slots into a new tensor,
  verified. These two are the price of never computing on wrong bytes.

Medians; GB are 1e9 bytes.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from transfer.backends import mooncake
from transfer.errors import BackendMissing
from transfer.messages import Grant, PoolAddress
from transfer.payload import pack, unpack
from transfer.pool import SlotPool
from transfer.transport import Kind, Transport

MIB = 1 << 20
SLOT_BYTES = 16 * MIB
Timed = Callable[[], Awaitable[None]]


class Bench:
    """The sending process: an outbox, a transport of each kind, and what they are compared with."""

    def __init__(self, target: PoolAddress, largest: int, kinds: list[Kind]) -> None:
        slots = -(-largest // SLOT_BYTES) + 1
        self.pool = SlotPool.create(1, SLOT_BYTES, slots)
        self.outbox = list(range(1, slots + 1))
        self.target = target
        self.transports = {kind: Transport(self.pool, kind) for kind in kinds}
        self.buffers = [np.ones(largest, np.uint8), np.zeros(largest, np.uint8)]
        self.tensor = torch.ones(largest, dtype=torch.uint8)
        self.engine: Any = direct_engine(self.pool) if "mooncake" in kinds else None

    async def memcpy(self, nbytes: int) -> None:
        np.copyto(self.buffers[1][:nbytes], self.buffers[0][:nbytes])

    async def send(self, kind: Kind, nbytes: int) -> None:
        count = -(-nbytes // SLOT_BYTES)
        grant = Grant("r", 1, 1, "there", 1, list(range(count)), 60.0, self.target)
        await self.transports[kind].send(self.outbox[:count], nbytes, grant, time.monotonic())

    async def direct_sync(self, nbytes: int) -> None:
        if self.engine.transfer_sync_write(*self._addresses(nbytes)) != 0:
            raise RuntimeError("Mooncake's synchronous write failed")

    async def direct_polled(self, nbytes: int) -> None:
        write = self.engine.transfer_submit_write(*self._addresses(nbytes))
        while (state := self.engine.transfer_check_status(write)) == 0:
            time.sleep(0)
        if state != 1:
            raise RuntimeError("Mooncake's submitted write failed")

    async def pack(self, nbytes: int) -> None:
        packed = pack(self.tensor[: nbytes - 4096])
        packed.write(self.pool.segments(self.outbox, packed.nbytes))

    def unpacking(self, nbytes: int) -> Timed:
        packed = pack(self.tensor[: nbytes - 4096])
        segments = self.pool.segments(self.outbox, packed.nbytes)
        checksum = packed.write(segments)

        async def timed() -> None:
            packed.write(segments)  # the other methods wrote there meanwhile
            start = time.perf_counter()
            unpack(segments, packed.nbytes, checksum)
            timed.seconds = time.perf_counter() - start  # type: ignore[attr-defined]

        return timed

    def methods(self, nbytes: int) -> dict[str, Timed]:
        found: dict[str, Timed] = {
            "memcpy": lambda: self.memcpy(nbytes),
            "shm": lambda: self.send("shm", nbytes),
        }
        if self.engine is not None:
            found |= {
                "direct sync": lambda: self.direct_sync(nbytes),
                "direct polled": lambda: self.direct_polled(nbytes),
                "mooncake": lambda: self.send("mooncake", nbytes),
            }
        return found | {"pack": lambda: self.pack(nbytes), "unpack": self.unpacking(nbytes)}

    async def close(self) -> None:
        for transport in self.transports.values():
            await transport.close()
        self.pool.close()

    def _addresses(self, nbytes: int) -> tuple[str, int, int, int]:
        there = self.target.mooncake
        assert there is not None
        source = self.pool.base + self.pool.spans(self.outbox)[0].offset
        return there.session, source, there.base + self.target.offset, nbytes


def direct_engine(pool: SlotPool) -> Any:
    engine = mooncake.load()()
    engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "")
    engine.register_memory(pool.base + pool.offset, pool.nbytes - pool.offset)
    return engine


async def measure(bench: Bench, nbytes: int, repeats: int) -> dict[str, float]:
    """Median seconds of each method. The methods take turns; the first round warms the pages."""
    methods = bench.methods(nbytes)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    turns = list(methods.items())
    for _ in range(repeats + 1):
        turns.append(turns.pop(0))  # so that none always comes after the same other
        for name, method in turns:
            start = time.perf_counter()
            await method()
            seconds[name].append(getattr(method, "seconds", time.perf_counter() - start))
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def summary(nbytes: int, seconds: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {"mib": nbytes // MIB, "seconds": seconds}
    found["gb_per_s"] = {name: nbytes / taken / 1e9 for name, taken in seconds.items()}
    found["shm_to_memcpy"] = seconds["memcpy"] / seconds["shm"]
    if "mooncake" in seconds:
        found["direct"] = min(("direct sync", "direct polled"), key=lambda way: seconds[way])
        found["mooncake_to_direct"] = seconds[found["direct"]] / seconds["mooncake"]
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: milliseconds (GB/s), and the two ratios."""
    head = ["MiB", "memcpy", "shm", "ratio", "Mooncake direct", "Mooncake", "ratio"]
    lines = [[*head, "pack", "unpack"], ["---:"] * 9]
    for result in results:
        direct = result.get("direct")
        cells = [cell(result, "memcpy"), cell(result, "shm"), f"{result['shm_to_memcpy']:.2f}"]
        if direct:
            cells += [f"{cell(result, direct)} {direct[7:]}", cell(result, "mooncake")]
            cells += [f"{result['mooncake_to_direct']:.2f}"]
        else:
            cells += ["not here"] * 3
        lines.append([str(result["mib"]), *cells, cell(result, "pack"), cell(result, "unpack")])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(result: dict[str, Any], name: str) -> str:
    return f"{result['seconds'][name] * 1e3:.3g} ms ({result['gb_per_s'][name]:.3g})"


def kinds() -> list[Kind]:
    try:
        mooncake.load()
    except BackendMissing as error:
        print(error, file=sys.stderr)
        return ["shm"]
    return ["shm", "mooncake"]


async def receive(largest: int) -> None:
    """The other process: offers its slots until its standard input ends."""
    pool = SlotPool.create(-(-largest // SLOT_BYTES), SLOT_BYTES, 0)
    transport = Transport(pool, "auto", "0.0.0.0")  # this host, by an address that is not loopback
    print(msgspec.json.encode(transport.address()).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await transport.close()
    pool.close()


async def run(sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.transfer", "--receive", str(max(sizes))]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        address = msgspec.json.decode(other.stdout.readline(), type=PoolAddress)
        bench = Bench(address, max(sizes), kinds())
        found = []
        for nbytes in sizes:
            # as many bytes for each size, within reason
            rounds = min(200, max(repeats, repeats * 64 * MIB // nbytes))
            found.append(summary(nbytes, await measure(bench, nbytes, rounds)))
        await bench.close()
        return found
    finally:
        other.stdin.close()
        other.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="1,16,64,256", help="MiB, with commas (default: 1,16,64,256)"
    )
    parser.add_argument("--repeats", type=int, default=9, help="rounds of the largest (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--receive", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.receive:
        return asyncio.run(receive(options.receive))
    sizes = [int(size) * MIB for size in options.sizes.split(",")]
    results = asyncio.run(run(sizes, options.repeats))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
