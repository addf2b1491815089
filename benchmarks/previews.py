"""Previews and cancelling on the demo model: how soon, and what they cost the picture.

    python -m benchmarks.previews [--requests 10] [--steps 100] [--json FILE]

Three roles with one thread each, one request at a time, by turns with and without three previews.
Cancelling: from the client's last word (it closes its connection, or says DELETE of a job) until
no instance has anything of it any more, as GET /v1/cluster tells.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import describe
from launch import Cluster

MODEL = Path(__file__).resolve().parent.parent / "launch" / "demo" / "model"
PREVIEWS = 3
LONG = 1000  # steps of a request that is cancelled
POLL_S = 0.001
Rows = dict[str, list[float]]


def body(steps: int, seed: int, previews: int) -> dict[str, Any]:
    return {
        "prompt": "a red circle above a blue square",
        "num_inference_steps": steps,
        "seed": seed,
        "stream": True,
        "partial_images": previews,
    }


def events(client: httpx.Client, asked: dict[str, Any]) -> Iterator[tuple[float, str]]:
    """Seconds since it was asked, and the type of each event."""
    began = time.perf_counter()
    with client.stream("POST", "/v1/images/generations", json=asked) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if line.startswith("event: "):
                yield time.perf_counter() - began, line.removeprefix("event: ")


def watched(client: httpx.Client, steps: int, seed: int, rows: Rows) -> None:
    """The same picture without previews and with them."""
    plain = [at for at, _ in events(client, body(steps, seed, 0))]
    told = list(events(client, body(steps, seed, PREVIEWS)))
    rows["without previews"].append(plain[-1])
    rows["with previews"].append(told[-1][0])
    rows["first preview"].append(told[0][0])
    rows["previews"].append(len(told) - 1)
    rows["cost of previews"].append(told[-1][0] - plain[-1])
    rows["step"].append(plain[-1] / steps)


def busy(client: httpx.Client) -> int:
    roles = client.get("/v1/cluster").json()["roles"]
    return sum(instance["in_flight"] for posts in roles.values() for instance in posts)


def until_free(client: httpx.Client) -> float:
    began = time.perf_counter()
    while busy(client):
        time.sleep(POLL_S)
    return time.perf_counter() - began


def disconnected(client: httpx.Client, seed: int, rows: Rows) -> None:
    """Its first preview was seen, so it is in the middle of its steps."""
    stream = events(client, body(LONG, seed, PREVIEWS))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    rows["cancel by leaving"].append(until_free(client))


def deleted(client: httpx.Client, seed: int, rows: Rows) -> None:
    asked = body(LONG, seed, 0) | {"stream": None, "partial_images": None}
    id = client.post("/v1/jobs", json=asked).json()["id"]
    while (client.get(f"/v1/jobs/{id}").json()["progress"] or {}).get("step", 0) < 2:
        time.sleep(POLL_S)
    began = time.perf_counter()
    client.delete(f"/v1/jobs/{id}")
    until_free(client)
    rows["cancel by DELETE"].append(time.perf_counter() - began)


def measure(requests: int, steps: int) -> Rows:
    """Seconds; and under `previews` how many came."""
    names = ["step", "without previews", "with previews", "cost of previews", "first preview"]
    rows: Rows = {name: [] for name in (*names, "previews")}
    rows |= {"cancel by leaving": [], "cancel by DELETE": []}
    with (
        Cluster(model=MODEL, encoders=1, denoisers=1, decoders=1, threads=1) as cluster,
        httpx.Client(base_url=cluster.url, timeout=120) as client,
    ):
        watched(client, steps, 0, {name: [] for name in rows})  # to warm up
        for seed in range(requests):
            watched(client, steps, seed, rows)
            disconnected(client, seed, rows)
            deleted(client, seed, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options.requests, options.steps)
    print(f"{describe()}; {options.requests} pictures of {options.steps} steps, one at a time\n")
    print("| | p50 | worst |\n|---|---|---|")
    for name, values in rows.items():
        if name == "previews":
            continue
        p50, worst = 1000 * statistics.median(values), 1000 * max(values)
        print(f"| {name} | {p50:.1f} ms | {worst:.1f} ms |")
    shown = sum(rows["previews"])
    print(f"\n{shown:.0f} of {PREVIEWS * options.requests} previews came")
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "seconds": rows}, indent=1))


if __name__ == "__main__":
    main()
