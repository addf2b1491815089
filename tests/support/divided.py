"""What the ranks of `tests.support.ranks` do: forwards of a small module, and whole pipelines."""

import os
import signal
import time
from typing import Any

import torch

from roles.calls import shorten
from roles.rank.world import RankFailed, RanksApart, World
from roles.split.denoising.batching import key_of
from roles.split.denoising.together import Together
from roles.split.parallel.across import Across
from roles.split.program import TransformerCall


class Doubler(torch.nn.Module):
    """Doubles latents `[samples, 4]`, for each sample with its own timestep. `forwards`: the
    samples of each."""

    def __init__(self, room: int = 100, mixes: bool = False) -> None:
        super().__init__()
        self.room, self.mixes = room, mixes
        self.forwards: list[int] = []

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> Any:
        self.forwards.append(len(hidden_states))
        if len(hidden_states) > self.room:
            raise RuntimeError("scripted: out of memory")
        mixed = hidden_states.mean(0) if self.mixes else 0
        return {"sample": 2 * hidden_states + timestep[:, None] + mixed, "names": None}


def _calls(module: Doubler, sizes: list[int]) -> list[TransformerCall]:
    made = []
    for index, size in enumerate(sizes):
        latents = torch.arange(4 * size, dtype=torch.float32).reshape(size, 4) + 100 * index
        kwargs = {"hidden_states": latents, "timestep": torch.arange(float(size))}
        made.append(TransformerCall(module, "transformer", (), kwargs))
    return made


def forwards(
    world: World, sizes: list[int], rooms: list[int], mixes: bool = False, repeat: int = 1
) -> Any:
    """Calls with so many samples each, together, `repeat` times."""
    module = Doubler(rooms[world.rank], mixes)
    calls = _calls(module, sizes)
    together = Together(Across(world))
    for _ in range(repeat):
        module.forwards.clear()
        shared = together.run(calls, key_of(calls[0]) or "")
    right = [
        isinstance(result, dict) and torch.equal(result["sample"], _alone(call))
        for call, result in zip(calls, shared.results, strict=True)
    ]
    errors = [f"{type(r).__name__}: {r}" for r in shared.results if isinstance(r, Exception)]
    return {
        "right": right,
        "forwards": module.forwards,
        "most": shared.most,
        "size": shared.size,
        "errors": errors,
    }


def _alone(call: TransformerCall) -> torch.Tensor:
    result: torch.Tensor = Doubler(mixes=call.module.mixes)(**call.kwargs)["sample"]
    return result


def disagree(world: World) -> list[str]:
    """Rank 1 fails, then holds something else, and each time all are told."""
    told = []
    for error, token in (
        (ValueError("no room") if world.rank == 1 else None, 0),
        (None, world.rank),
        (None, 7),
    ):
        try:
            world.agree(error, token)
            told.append("fine")
        except Exception as reason:
            told.append(f"{type(reason).__name__}: {reason}")
    told.append(str([world.all(True), world.all(world.rank == 0)]))
    return told


def killed(world: World) -> str:
    """Rank 1 dies while the others wait for its part."""
    world.agree(None)
    if world.rank == 1:
        time.sleep(0.1)  # the others are in the middle of it
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        world.agree(None)
    except RanksApart as error:
        return shorten(str(error))
    return "fine"


def hung(world: World) -> str:
    """Rank 1 does not come, and does not end."""
    world.agree(None)
    world.patience_s = 0.5
    if world.rank == 1:
        time.sleep(6)
        return "late"
    try:
        world.agree(None)
    except RanksApart as error:
        return str(error)
    return "fine"


def ahead(world: World) -> str:
    """Rank 1 is one agreement ahead."""
    if world.rank == 1:
        world._agreements += 1
    try:
        world.agree(None)
    except (RanksApart, RankFailed) as error:
        return str(error)
    return "fine"
