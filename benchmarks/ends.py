"""The two ends of the pipeline: the encoder's cache, and files made beside the next decode.

    python -m benchmarks.ends [--size 512x512] [--seconds 6] [--json FILE]

On the demo model, in this process, one thread each for the model and for files; no sockets.

- *encoder*: requests per second without a cache, with one that knows no prompt yet, and with one
  that knows all of them.
- *decoder*: pictures per second, by format; *in turn*: each file is waited for before the next
  request is decoded, *beside*: files are made in a thread meanwhile.
- *texts together*: the text encoder's forward for n texts against n forwards for one, which is all
  that encoding several requests as one batch could gain; and its share of an encode.
- *taking in*: copying a payload out of its slots and checking it, by size, which is all that doing
  so in a thread could save of a step.

What is compared is measured in turns, so that a noisy neighbour meets all of it.
"""

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from roles.calls import Begin, Key, Outcome, Run
from roles.rank.runner import Runner
from roles.split.encoding.encodings import Encodings
from roles.split.loading import load
from roles.split.program import Call, Program
from transfer.header import HEADER_BYTES
from transfer.messages import Delivery, Inputs, Output
from transfer.payload import pack, unpack
from transfer.pool import SlotPool

ROUNDS = 5
PROMPTS = [f"a {a} {b} above a {c} circle" for a in ("red", "blue") for b in ("star", "square")
           for c in ("green", "yellow", "orange", "purple")]  # fmt: skip
IN_THE_WORKS = 3  # as many as a decoder takes
FORMATS = ("png", "jpeg", "webp")
TEXTS = (1, 4, 8)
MIB = 1 << 20
Row = dict[str, Any]


def timed(work: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    began = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - began


def median_ms(repeats: int, work: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    return 1000 * statistics.median(timed(work, *args, **kwargs) for _ in range(repeats))


# ---------------------------------------------------------------- the encoder


def encoder(program: Program) -> Row:
    """Requests per second, the median of the rounds."""
    known = Encodings(64 * MIB, "m")
    ways: dict[str, Callable[[], Encodings | None]] = {
        "without": lambda: None,
        "new prompts": lambda: Encodings(64 * MIB, "m"),
        "known prompts": lambda: known,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, cache in ways.items():
            program.encodings = cache()
            taken = timed(_encode_all, program, number)
            if number:  # the first round warms up, and fills the cache that knows
                seconds[way].append(taken)
    program.encodings = None
    return {way: len(PROMPTS) / statistics.median(each) for way, each in seconds.items()}


def _encode_all(program: Program, seed: int) -> None:
    for prompt in PROMPTS:
        program.encode(_call(prompt, seed))


def _call(prompt: str, seed: int) -> Call:
    return Call(f"r{seed}", Inputs({"prompt": prompt, "num_inference_steps": 4}, seed))


def texts(program: Any) -> list[Row]:
    """What a forward of several texts costs, and what one is of a whole encode."""
    text_encoder, tokenizer = program.pipeline.text_encoder, program.pipeline.tokenizer
    encode_ms = median_ms(20, program.encode, _call(PROMPTS[0], 1))
    rows: list[Row] = []
    for count in TEXTS:
        ids = tokenizer([PROMPTS[0]] * count, return_tensors="pt").input_ids
        taken = median_ms(30, text_encoder, input_ids=ids, output_hidden_states=True)
        rows.append({"texts": count, "forward ms": taken})
    one = rows[0]["forward ms"]
    for row in rows:
        row["gain"] = row["texts"] * one / row["forward ms"]
        row["encode ms"] = encode_ms
    return rows


# ---------------------------------------------------------------- the decoder


class Decoder:
    """The runner of a decoder's rank, driven as by its leader; one payload for all requests."""

    def __init__(self, program: Program, size: tuple[int, int]) -> None:
        self._program = program
        self._params = {"prompt": PROMPTS[0], "num_inference_steps": 1,
                        "width": size[0], "height": size[1]}  # fmt: skip
        packed = pack(self._latents())
        self._pool = SlotPool.create(1, packed.nbytes + HEADER_BYTES, 0)
        checksum = packed.write(self._pool.segments([0], packed.nbytes))
        self._delivery = Delivery(1, [0], packed.nbytes, checksum)
        self._runner = Runner(program, self._pool, 0, 1, lambda: None, 0.0, lambda: False)
        self._count = 0

    def run(self, form: Any, seconds: float, in_the_works: int) -> float:
        """Pictures per second."""
        works: deque[tuple[Key, Future[Outcome]]] = deque()
        began, made = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < seconds:
            works.append(self._decode(form))
            while len(works) >= in_the_works or (works and works[0][1].done()):
                made += self._collect(*works.popleft())
        while works:
            made += self._collect(*works.popleft())
            spent = time.perf_counter() - began
        return made / spent

    def close(self) -> None:
        self._runner.close()
        self._pool.close()

    def _decode(self, form: Any) -> tuple[Key, Future[Outcome]]:
        self._count += 1
        key = (f"r{self._count}", 1)
        inputs = Inputs(self._params, 1, Output(form))
        self._runner.begin(Begin(*key, "decoder", inputs, self._delivery))
        (outcome,) = self._runner.run(Run("decode", ((key,),))).outcomes
        assert outcome.error is None, outcome.error
        told: Future[Outcome] = Future()
        self._runner.collect(key, told.set_result)
        return key, told

    def _collect(self, key: Key, told: "Future[Outcome]") -> int:
        files = told.result().media
        assert files
        self._runner.drop(key)
        return len(files)

    def _latents(self) -> Any:
        call = Call("r", Inputs(self._params, 1))
        denoising = self._program.denoise(call, self._program.encode(call))
        denoising.start()
        while denoising.pending:
            denoising.resume([each.run() for each in denoising.pending])
        return denoising.result()


def decoder(program: Program, size: tuple[int, int], seconds: float) -> list[Row]:
    bench, rows = Decoder(program, size), []
    for form in FORMATS:
        bench.run(form, 0.5, 1)
        rounds = [
            (bench.run(form, seconds / ROUNDS, 1), bench.run(form, seconds / ROUNDS, IN_THE_WORKS))
            for _ in range(ROUNDS)
        ]
        turn, beside = (statistics.median(each) for each in zip(*rounds, strict=True))
        gain = statistics.median(after / before for before, after in rounds)
        rows.append({"format": form, "in turn": turn, "beside": beside, "gain": gain})
    bench.close()
    return rows


# ---------------------------------------------------------------- taking a payload in


def taking_in(program: Program) -> list[Row]:
    """Milliseconds by size, and those of one step of the demo model."""
    denoising = program.denoise(_call(PROMPTS[0], 1), program.encode(_call(PROMPTS[0], 1)))
    denoising.start()
    pending = denoising.pending
    assert pending
    step_ms = median_ms(20, lambda: [call.run() for call in pending])
    denoising.cancel()
    rows = []
    for mib in (1 / 16, 1, 4, 16, 64):
        packed = pack(torch.zeros(int(mib * MIB), dtype=torch.uint8))
        memory = memoryview(bytearray(packed.nbytes))
        checksum = packed.write([memory])
        taken = median_ms(10, unpack, [memory], packed.nbytes, checksum)
        rows.append({"MiB": mib, "ms": taken, "step ms": step_ms})
    return rows


# ---------------------------------------------------------------- the report


def table(title: str, rows: list[Row]) -> None:
    print(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        words = (
            f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()
        )
        print(f"| {' | '.join(words)} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="512x512", help="of the decoder's pictures")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each column of a row")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    width, _, height = options.size.partition("x")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    program = load(MODEL, ["encoder", "denoiser", "decoder"], "float32")
    print(f"{describe()}; the demo model, 1 thread; pictures of {options.size}")
    told = {
        "encoder, requests/s": [encoder(program)],
        "decoder, pictures/s": decoder(program, (int(width), int(height)), options.seconds),
        "texts together": texts(program),
        "taking a payload in": taking_in(program),
    }
    for title, rows in told.items():
        table(title, rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), **told}, indent=1))


if __name__ == "__main__":
    main()
