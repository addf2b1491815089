"""An encoder that writes: tokens per second of 1, 4 and 8 requests, against the plain `generate`.

    python -m benchmarks.tokens [--layers 8] [--width 256] [--tokens 64] [--json FILE]

A random model of the Ministral kind, and the scheduler and steps of an encoder's rank in this
process: one thread, no sockets. *plain*: `generate` of transformers, one request after the other.
*turns*: the autoregressive runner without shared forwards. *together*: what is served by default;
what it tries first to learn whether sharing pays is done before, the reading of prompts is not.
Requests have prompts of 16 to 96 tokens, and write `--tokens` and up to half as many more. Seconds
are processor time of the one thread: what it would take if nobody else computed on this machine.
*same*: texts that are the plain one's, token for token.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from benchmarks.environment import describe
from roles.calls import Key
from roles.leader.batch_costs import BatchCosts
from roles.leader.scheduler import Arrived, Ended, Ran, Scheduler
from roles.rank.stepping import Stepper
from roles.split.encoding.generation import Generation, Generator
from roles.split.randomness import GlobalRandomness

RUNNING = (1, 4, 8)
ROUNDS = 3
WARMING = 3  # rounds in which it learns
SLICE_S = 0.25
WORDS = 4096


@dataclass(frozen=True)
class Asked:
    prompt: torch.Tensor
    tokens: int

    @property
    def arguments(self) -> dict[str, Any]:
        mask = torch.ones_like(self.prompt)
        return {"input_ids": self.prompt, "attention_mask": mask, "max_new_tokens": self.tokens}


def requests(count: int, tokens: int) -> list[Asked]:
    draw = torch.Generator().manual_seed(count)
    made = []
    for _ in range(count):
        length = int(torch.randint(16, 97, (), generator=draw))
        more = int(torch.randint(0, tokens // 2 + 1, (), generator=draw))
        made.append(Asked(torch.randint(3, WORDS, (1, length), generator=draw), tokens + more))
    return made


@dataclass
class Live:
    generation: Generation

    @property
    def denoising(self) -> Generation:
        return self.generation

    @property
    def batch_key(self) -> str | None:
        return self.generation.pending[0].key if self.generation.pending else None

    @property
    def stops(self) -> bool:
        return False


class Encoder:
    """The scheduler and the stepper of one rank, driven as by its engine."""

    def __init__(self, model: Any, running: int, costs: BatchCosts | None) -> None:
        self._generator = Generator("pe", model)
        self._scheduler = Scheduler(running, costs, "sjf")
        self._stepper = Stepper(lambda: None, SLICE_S, lambda: False)
        self._live: dict[Key, Live] = {}
        self._begun = 0

    def run(self, asked: list[Asked]) -> list[list[int]]:
        """What each writes."""
        keys = [self._arrive(each) for each in asked]
        texts: dict[Key, list[int]] = {}
        while (plan := self._scheduler.plan()) is not None:
            group = {key: self._live[key] for key in plan.keys}
            if plan.unit == "encode":
                (live,) = group.values()
                live.generation.start()
                live.generation.read()
            elif plan.unit == "step":
                turn = self._stepper.take(list(group.values()), plan.share)
                assert not any(turn.errors), turn.errors
                if turn.measured is not None:
                    self._scheduler.handle(turn.measured)
            for key, live in group.items():
                if live.generation.done:
                    texts[key] = live.generation.result()
                    self._scheduler.handle(Ended(key))
                else:
                    self._scheduler.handle(Ran(key, live.batch_key))
        return [texts[key] for key in keys]

    def _arrive(self, asked: Asked) -> Key:
        def program(generation: Generation) -> list[int]:
            generate = generation.generate_of(self._generator)
            return list(generate(**asked.arguments)[0].tolist())

        self._begun += 1
        key = (f"r{self._begun}", 1)
        randomness = GlobalRandomness(0, torch.device("cpu"))
        self._live[key] = Live(Generation(key[0], program, [self._generator], randomness))
        self._scheduler.handle(Arrived(key, "encoder"))
        return key


def plain(model: Any, asked: list[Asked]) -> list[list[int]]:
    return [model.generate(**each.arguments)[0].tolist() for each in asked]


def measure(model: Any, running: int, tokens: int) -> dict[str, float]:
    asked = requests(running, tokens)
    count = sum(each.tokens for each in asked)
    turns, together = Encoder(model, running, None), Encoder(model, running, BatchCosts(True))
    for _ in range(WARMING):
        together.run(asked)
    ways = {"plain": lambda: plain(model, asked), "turns": lambda: turns.run(asked)}
    ways["together"] = lambda: together.run(asked)
    found: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[list[int]]] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.thread_time()
            texts[name] = way()
            found[name].append(count / (time.thread_time() - began))
    row: dict[str, float] = {name: statistics.median(each) for name, each in found.items()}
    same = sum(a == b for a, b in zip(texts["plain"], texts["together"], strict=True))
    assert texts["turns"] == texts["plain"]
    return {"running": running, **row, "gain": row["together"] / row["plain"], "same": same}


def build(layers: int, width: int) -> Any:
    torch.manual_seed(0)
    config = hf.Ministral3Config(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=max(1, width // 128),
        head_dim=32,
        vocab_size=WORDS,
        max_position_embeddings=1 << 18,
        sliding_window=None,
    )
    model = hf.Ministral3ForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256, help="a multiple of 128")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = build(options.layers, options.width)
    rows = [measure(model, running, options.tokens) for running in RUNNING]
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{describe()}; {parameters / 1e6:.1f} million parameters, float32\n")
    print("| requests | plain tokens/s | turns | together | together / plain | same |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        speeds = " | ".join(f"{row[name]:.0f}" for name in ("plain", "turns", "together"))
        same = f"{row['same']:.0f} of {row['running']:.0f}"
        print(f"| {row['running']:.0f} | {speeds} | {row['gain']:.2f} | {same} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
