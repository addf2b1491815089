"""What strangers on the control port cost everybody else: latency and memory beside idle ones.

    python -m benchmarks.hostile_bytes [--scale 1.0] [--json FILE]

A real orchestrator; scripted roles and one client, request after request, in this process; the
strangers in a third one. Per attack: p50 and p99 of the client with nobody else around, then beside
the strangers (target: p99 at most 50 ms above idle), and the orchestrator's memory before, at its
peak and after. Attacks: see `tests/support/strangers.py`; --scale multiplies their connections.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from tests.support.besieged import Besieged, besieged
from tests.support.strangers import attack

TARGET_MS = 50.0
IDLE_REQUESTS = 1000
COUNTS = {
    "noise": 10_000,
    "hellos": 10_000,
    "half_open": 1_000,
    "large_claims": 1_000,
    "insiders": 10_000,
}


async def peak_of(target: Besieged, ended: "asyncio.Future[int]") -> int:
    """The most memory that it was seen to have, in bytes."""
    most = target.rss
    while not ended.done():
        await asyncio.wait({ended}, timeout=0.02)
        most = max(most, target.rss)
    return most


async def measure(target: Besieged, name: str, count: int, bomb: Path) -> dict[str, Any]:
    idle, before, refused = await target.idle(IDLE_REQUESTS), target.rss, await target.refused()
    storm = asyncio.ensure_future(attack(name, target.control, count, bomb=bomb))
    beside, peak = await asyncio.gather(target.ask_until(storm), peak_of(target, storm))
    return {
        "attack": name,
        "connections": await storm,
        "refused": await target.refused() - refused,
        "requests": len(beside.seconds),
        "idle_p50_ms": idle.p50_ms,
        "idle_p99_ms": idle.p99_ms,
        "beside_p50_ms": beside.p50_ms,
        "beside_p99_ms": beside.p99_ms,
        "more_p99_ms": beside.p99_ms - idle.p99_ms,
        "rss_before_bytes": before,
        "rss_peak_bytes": peak,
        "rss_after_bytes": target.rss,
        "alive": target.alive and not bomb.exists(),
    }


async def measure_all(scale: float) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        bomb = Path(folder) / "bomb"
        async with besieged() as target:
            await target.idle(100)  # warm
            counts = {name: max(1, int(count * scale)) for name, count in COUNTS.items()}
            return [await measure(target, name, count, bomb) for name, count in counts.items()]


def row(told: dict[str, Any]) -> str:
    mib = [f"{told[f'rss_{when}_bytes'] / (1 << 20):.0f}" for when in ("before", "peak", "after")]
    times = [f"{told[f'{when}_ms']:.1f}" for when in ("idle_p50", "idle_p99")]
    times += [f"{told[f'{when}_ms']:.1f}" for when in ("beside_p50", "beside_p99", "more_p99")]
    cells = [told["attack"], str(told["connections"]), str(told["requests"]), *times, *mib]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = asyncio.run(measure_all(options.scale))
    print(f"{describe()}. Milliseconds and MiB.\n")
    print(
        "| attack | connections | requests | idle p50 | p99 | beside p50 | p99 | p99 more by |",
        end="",
    )
    print(" before | peak | after |")
    print("|---|" + "---:|" * 10)
    print("\n".join(map(row, rows)))
    worst = max(told["more_p99_ms"] for told in rows)
    verdict = "reached" if worst <= TARGET_MS and all(told["alive"] for told in rows) else "missed"
    print(
        f"\np99 beside strangers: at most {worst:.1f} ms more (target {TARGET_MS:.0f}): {verdict}"
    )
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
