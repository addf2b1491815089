"""What checkpoints and their copies save when a denoiser ends in the middle, and what they cost.

    python -m benchmarks.portable [--kills 5] [--requests 20] [--json FILE]

Orchestrator, an encoder, two denoisers and a decoder, each a process; compute is scripted: a step
sleeps 50 ms, pictures tell the seed and the steps. In turns, with a checkpoint each half second and
with `--checkpoint 0`:

- a request alone, undisturbed; then SIGKILL of its denoiser, leader and ranks, when four fifths of
  its steps are done. Told is how much later it is done than the undisturbed ones.
- SIGKILL of the rank only: its leader keeps the checkpoint.

Then a denoiser has so many requests, of which it takes the shortest first; another one comes, and
the first is drained in the middle: seconds until its process has ended, and the seconds of work
that it would have had to do otherwise.

At last what a checkpoint costs, on the demo model in this process: milliseconds of the compute path
for the state at the end of a step and for writing it into the outbox, and its bytes.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from roles.split.loading import load
from roles.split.program import Call
from tests.support.directed_program import Directions
from tests.support.troupe import Book, Troupe, eventually, picture, troupe
from transfer import keys
from transfer.messages import Inputs
from transfer.payload import pack

MODEL = Path(__file__).resolve().parent.parent / "launch" / "demo" / "model"
STEP_S = 0.05
STEPS = 60
AT = str(STEPS * 4 // 5 + 1)  # the step in which it is killed
EVERY_S = 0.5
LONG = 60  # steps of a request whose denoiser is drained: 20 of them take a minute
SETTINGS = {"slice_s": 0.0, "slots": 64, "slot_bytes": 1 << 16}


# ---------------------------------------------------------------- a denoiser is killed


async def kills(folder: Path, every_s: float, times: int) -> dict[str, list[float]]:
    """Seconds of undisturbed requests, and of those whose denoiser, or its rank, was killed."""
    found: dict[str, list[float]] = {"undisturbed": [], "denoiser": [], "rank": []}
    names = ("encoder-0", "denoiser-0", "denoiser-1", "decoder-0")
    settings = SETTINGS | {"checkpoint_s": every_s}
    async with troupe(folder / "state", *names, settings=settings) as them:
        await _one(them, folder / "warm", None)
        for turn in range(times):
            for victim, seconds in found.items():
                seconds.append(await _one(them, folder / f"{victim} {turn}", victim))
    return found


async def _one(them: Troupe, path: Path, victim: str | None) -> float:
    book, began = Book(path), time.monotonic()
    directions = Directions(book=str(path), seconds=STEP_S)
    asking = them.asking(1, directions, num_inference_steps=STEPS)
    if victim in ("denoiser", "rank"):
        await book.until(AT)
        await _kill(them, book, victim)
    assert await asking == picture(1, steps=STEPS), "another picture"
    seconds = time.monotonic() - began
    for name in ("denoiser-0", "denoiser-1"):
        if not await them.is_ready(name):
            await _back(them, name, victim)
    return seconds


async def _kill(them: Troupe, book: Book, victim: str) -> None:
    rank = book.pids(AT)[0]
    if victim == "rank":
        os.kill(rank, signal.SIGKILL)
    else:
        them.with_rank(rank).signal(signal.SIGKILL, ranks=True)


async def _back(them: Troupe, name: str, victim: str | None) -> None:
    if victim == "denoiser":
        await them.restart(name)
    await eventually(lambda: them.is_ready(name))


# ---------------------------------------------------------------- a denoiser is drained


async def drain(folder: Path, requests: int) -> dict[str, float]:
    """With so many long requests running, which go on at another denoiser that has come since."""
    settings = SETTINGS | {"checkpoint_s": EVERY_S, "max_batch": requests}
    names = ("encoder-0", "denoiser-0", "decoder-0")
    async with troupe(folder / "state", *names, settings=settings) as them:
        books = [Book(folder / str(number)) for number in range(requests)]
        directions = [Directions(book=str(book.path), seconds=STEP_S) for book in books]
        asking = [
            them.asking(seed, each, num_inference_steps=LONG)
            for seed, each in enumerate(directions)
        ]
        await eventually(lambda: _has(them, "denoiser-0", requests))
        await them.join("denoiser-1", **settings)
        left = sum(LONG - _steps(book) for book in books)
        assert left > 0, "the requests were over before the other denoiser had come"
        drained = them.members["denoiser-0"]
        assert drained.leader is not None
        began = time.monotonic()
        drained.signal(signal.SIGTERM)
        await drained.leader.process.wait()
        gone_s = time.monotonic() - began
        await drained.stack.aclose()
        pictures = await asyncio.gather(*asking)
        again = sum(len([p for p in book.places if p.isdigit()]) for book in books)
        wrong = sum(each != picture(seed, LONG) for seed, each in enumerate(pictures))
        moved = (await them.counters()).get("attempts_moved", 0)
        await them.comes_home()
    return {
        "requests": requests,
        "moved": moved,
        "drain_s": gone_s,
        "left_s": left * STEP_S,
        "steps_twice": again - requests * LONG,
        "other_pixels": wrong,
    }


async def _has(them: Troupe, name: str, requests: int) -> bool:
    return (await them.seen(name)).get("in_flight") == requests


def _steps(book: Book) -> int:
    return sum(place.isdigit() for place in book.places)


# ---------------------------------------------------------------- what a checkpoint costs


def costs(steps: int = 40) -> dict[str, float]:
    """Medians over the steps of one request: milliseconds of a step without a checkpoint and with
    one, and of making and writing its payload; and bytes."""
    program = load(str(MODEL), ["encoder", "denoiser"], "float32", "cpu")
    params = {"prompt": "a red circle above a blue square", "num_inference_steps": steps}
    call = Call("r", Inputs(params, seed=1))
    denoising = program.denoise(call, program.encode(call))
    denoising.start()
    rows: dict[str, list[float]] = {"step": [], "marked": [], "pack": [], "write": [], "bytes": []}
    while not denoising.done:
        outputs = [each.run() for each in denoising.pending]
        marked = denoising.step % 2 == 1
        if marked:
            denoising.mark()
        before, step, began = denoising.checkpoint, denoising.step, time.perf_counter()
        denoising.resume(outputs)
        if denoising.step > step:
            rows["marked" if marked else "step"].append(time.perf_counter() - began)
        new = denoising.checkpoint
        if new is not None and new is not before:
            _write(new.payload, rows)
    told = {name: statistics.median(values) for name, values in rows.items()}
    milliseconds = {name: 1000 * told[name] for name in ("step", "marked", "pack", "write")}
    whole = 1000 * (told["marked"] - told["step"] + told["pack"] + told["write"])
    return milliseconds | {"whole": whole, "bytes": told["bytes"]}


def _write(payload: Any, rows: dict[str, list[float]]) -> None:
    """As a rank does it: packed at the end of the step, and written between two turns."""
    began = time.perf_counter()
    packed = pack(payload)
    rows["pack"].append(time.perf_counter() - began)
    slots = memoryview(bytearray(packed.nbytes))
    began = time.perf_counter()
    packed.write([slots])
    rows["write"].append(time.perf_counter() - began)
    rows["bytes"].append(packed.nbytes)


# ---------------------------------------------------------------- all of it


def extra(rows: dict[str, list[float]], victim: str) -> tuple[float, float]:
    """How much later than undisturbed: median and most."""
    base = statistics.median(rows["undisturbed"])
    late = [seconds - base for seconds in rows[victim]]
    return statistics.median(late), max(late)


def report(told: dict[str, Any]) -> str:
    whole = statistics.median(told["off"]["undisturbed"])
    lines = [
        f"{describe()}. {STEPS} steps of {1000 * STEP_S:.0f} ms, killed in step {AT}; "
        f"{len(told['on']['denoiser'])} times each; undisturbed {whole:.2f} s\n",
        "| seconds later | p50 | max | from its beginning, p50 | max |",
        "|---|---:|---:|---:|---:|",
    ]
    for victim, name in (("denoiser", "SIGKILL denoiser"), ("rank", "SIGKILL rank")):
        cells = (*extra(told["on"], victim), *extra(told["off"], victim))
        lines.append(f"| {name} | {' | '.join(f'{each:.2f}' for each in cells)} |")
    drained, cost = told["drain"], told["costs"]
    lines.append(
        f"\nDrain with {drained['requests']} requests in flight: gone after "
        f"{drained['drain_s']:.2f} s, with {drained['left_s']:.1f} s of steps to do; "
        f"{drained['moved']} moved, "
        f"{drained['steps_twice']} steps of {drained['requests'] * LONG} done twice, "
        f"{drained['other_pixels']} other pixels"
    )
    lines.append(
        f"A checkpoint of the demo model: {cost['whole']:.2f} ms of the compute path (the step's "
        f"end {cost['marked'] - cost['step']:.2f}, packing {cost['pack']:.2f}, writing "
        f"{cost['write']:.2f}), {cost['bytes']:.0f} bytes"
    )
    return "\n".join(lines)


async def measure(times: int, requests: int, folder: Path) -> dict[str, Any]:
    for name in ("on", "off", "drain"):
        (folder / name).mkdir()
    on = await kills(folder / "on", EVERY_S, times)
    off = await kills(folder / "off", 0.0, times)
    return {"on": on, "off": off, "drain": await drain(folder / "drain", requests)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5, help="of each kind (default: 5)")
    parser.add_argument(
        "--requests", type=int, default=20, help="that run when a denoiser drains (default: 20)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[keys.VARIABLE] = str(keys.make(Path(folder) / "keys").folder)
        told = asyncio.run(measure(options.kills, options.requests, Path(folder)))
    told["costs"] = costs()
    print(report(told))
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), **told}, indent=1))


if __name__ == "__main__":
    main()
