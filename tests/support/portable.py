"""Taking checkpoints of a request, and going on from them elsewhere."""

from typing import Any

import torch

from roles.split.program import Call, Checkpoint, Denoising, Program
from tests.support.splitting import cross


def run_to_end(denoising: Denoising) -> int:
    """Runs a started denoising to its end, each forward alone; how many there were."""
    forwards = 0
    while not denoising.done:
        outputs = [call.run() for call in denoising.pending]
        denoising.resume(outputs)
        forwards += len(outputs)
    return forwards


def checkpoint_at(denoising: Denoising, step: int) -> Checkpoint | None:
    """Runs a started denoising until it has a checkpoint at that step, or is done."""
    while not denoising.done and denoising.checkpoint is None:
        if denoising.step == step - 1:
            denoising.mark()
        denoising.resume([call.run() for call in denoising.pending])
    return denoising.checkpoint


def resumed(program: Program, call: Call, checkpoint: Checkpoint) -> Denoising:
    """A denoising that goes on from a checkpoint which came from another process."""
    assert checkpoint.why_not is None, checkpoint.why_not
    denoising = program.denoise(call, cross(checkpoint.payload))
    denoising.start()
    return denoising


def equal(one: Any, other: Any) -> bool:
    """Whether two payloads are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    return bool(type(one) is type(other))
