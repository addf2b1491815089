"""What one result of 1.3 GB costs everybody else: latency and memory, and how fast it arrives.

    python -m benchmarks.large_result [--rows ROW,ROW] [--repeat N] [--json FILE]

A real orchestrator, scripted roles, the client that fetches the large result, and four clients with
tiny requests, 25 ms apart each, are separate processes. Rows: how the file gets from the decoder to
the front door (*local*: same host and user, by its descriptor; *channel*: the encrypted media
channel, as from another host), and from there to the client (*b64* in the reply, *url* and *job*:
a file of its own, stored first).

Per row, of the other clients: p50, p99 and maximum with nobody else around, then for as long as the
large result is being made, stored and fetched. A request counts from the moment when it was due.
Target: p99 at most 50 ms above idle.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.environment import describe
from benchmarks.scripted.caller import HttpCaller, Tally
from benchmarks.scripted.large_decoder import LARGE_BYTES
from benchmarks.scripted.processes import Started, ready, started

WAYS, KINDS = ("local", "channel"), ("b64", "url", "job")
ROWS = tuple(f"{way}-{kind}" for way in WAYS for kind in KINDS)
TARGET_MS = 50.0
CLIENTS, EVERY_S = 4, 0.025
IDLE_S, WARM_S = 5.0, 1.0

Row = dict[str, Any]


class Paced(HttpCaller):
    """Asks every `EVERY_S` seconds; what is due while it still waits is asked as soon as it can,
    and has waited since it was due."""

    _due = 0.0

    def _ask(self) -> None:
        now = time.perf_counter()
        self._due = (self._due or now) + EVERY_S
        if self._due > now:
            asyncio.get_running_loop().call_later(self._due - now, self._send)
        else:
            self._send(self._due)


async def beside(url: str, action: Awaitable[Any]) -> tuple[list[float], Any]:
    """Milliseconds of all requests of the other clients while something goes on, and its result."""
    tally, place = Tally(), urlsplit(url)
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CLIENTS):
        await asyncio.sleep(EVERY_S / CLIENTS)
        _, client = await loop.create_connection(
            lambda: Paced(tally, place.netloc), place.hostname, place.port
        )
        clients.append(client)
    await asyncio.sleep(WARM_S)
    tally.open = True
    result = await action
    for client in clients:
        client.close()
    return [1000 * seconds for seconds in tally.seconds], result


def centiles(name: str, ms: list[float]) -> Row:
    p99 = statistics.quantiles(ms, n=100, method="inclusive")[98]
    told = {"p50": statistics.median(ms), "p99": p99, "max": max(ms)}
    return {f"{name}_requests": len(ms)} | {f"{name}_{key}_ms": told[key] for key in told}


@contextlib.contextmanager
def cluster(way: str) -> Iterator[tuple[Started, Started]]:
    front = ("benchmarks.scripted.front", "orchestrator")
    with started("orchestrator", *front) as orchestrator:
        control = ready(orchestrator).facts["control"]
        with started("roles", "benchmarks.scripted.large_decoder", control, way) as roles:
            yield orchestrator, ready(roles)


def measure(row: str) -> Row:
    way, kind = row.split("-")
    with cluster(way) as (orchestrator, roles):
        url = orchestrator.facts["http"]
        idle, _ = asyncio.run(beside(url, asyncio.sleep(IDLE_S)))
        before = reset_peak(orchestrator.process.pid)
        processor = [each.processor_s() for each in (orchestrator, roles)]
        with started("client", "benchmarks.scripted.downloader", url, kind) as client:
            assert client.line() == "begin"
            orchestrator.ask()
            loaded, fetched = asyncio.run(beside(url, asyncio.to_thread(client.ask)))
        layers = json.loads(orchestrator.ask())
        fetched = json.loads(fetched)
        spent = [
            {kind: after[kind] - earlier[kind] for kind in after}
            for earlier, after in zip(
                processor, (each.processor_s() for each in (orchestrator, roles)), strict=True
            )
        ]
        return {
            "row": row,
            **centiles("idle", idle),
            **centiles("beside", loaded),
            **fetched,
            "megabytes_per_s": LARGE_BYTES / fetched["seconds"] / 1e6,
            "rss_before_bytes": before,
            "rss_peak_bytes": status(orchestrator.process.pid, "VmHWM"),
            "processor_s": {"orchestrator": spent[0], "roles": spent[1]},
            "layers": layers,
        }


def reset_peak(pid: int) -> int:
    """From now on the peak of the process's resident memory is counted anew; what it is, bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status(pid, "VmRSS")


def status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kib) * 1024


def cells(row: Row) -> str:
    times = [row[f"{when}_{what}_ms"] for when in ("idle", "beside") for what in TIMES]
    times.append(row["beside_p99_ms"] - row["idle_p99_ms"])
    mib = [row[f"rss_{when}_bytes"] / (1 << 20) for when in ("before", "peak")]
    numbers = [f"{ms:.1f}" for ms in times]
    numbers += [f"{row['seconds']:.1f}", f"{row['megabytes_per_s']:.0f}"]
    return f"| {' | '.join([row['row'], *numbers, *(f'{m:.0f}' for m in mib)])} |"


TIMES = ("p50", "p99", "max")
HEAD = (
    "| row | idle p50 | p99 | max | beside p50 | p99 | max | p99 more by | seconds | MB/s "
    "| MiB before | peak |"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=1, help="of each row (default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    gc.disable()  # the other clients are not what is measured
    rows = []
    print(f"{describe()}. Milliseconds; resident MiB of the orchestrator.\n\n{HEAD}")
    print("|---|" + "---:|" * 11)
    for name in options.rows.split(","):
        for _ in range(options.repeat):
            rows.append(measure(name))
            print(cells(rows[-1]), flush=True)
    worst = max(row["beside_p99_ms"] - row["idle_p99_ms"] for row in rows)
    verdict = "reached" if worst <= TARGET_MS else "missed"
    found = f"at most {worst:.1f} ms more (target {TARGET_MS:.0f})"
    print(f"\np99 beside the large result: {found}: {verdict}")
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
