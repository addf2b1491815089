"""`--parallel tensor=N`: diffusers' tensor parallelism, on the transformers with a plan.

Each rank holds a part of the weights of each layer and computes that part of it for all tokens; the
ranks add up what they have within every block. The weights are read in parts too: no rank holds
all of them at any time. Which part is whose is diffusers' own plan (`_tp_plan`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import TensorParallelConfig
from diffusers.hooks import tensor_parallel
from torch.distributed.device_mesh import DeviceMesh

from roles.parallel import Parallel
from roles.split.parallel.context import some_device
from roles.split.program import ModelError
from transfer.messages import Speed


@dataclass(frozen=True)
class Shares:
    """How a rank reads its part of the denoisers' weights. `mesh`: the ranks with the others."""

    parallel: Parallel
    mesh: DeviceMesh
    device: torch.device
    speed: Speed

    @contextlib.contextmanager
    def reading(self, kind: Any, path: Path) -> Iterator[dict[str, Any]]:
        """What `from_pretrained` of this class is given within the block. Raises ModelError, with
        what is supported instead."""
        if (reason := why_not(kind, path, self.speed, self.parallel)) is not None:
            raise ModelError(
                f"--parallel {self.parallel}: {reason}; --parallel guidance={self.parallel.ranks} "
                "goes with every model"
            )
        config = _Config(mesh=self.mesh)  # type: ignore[no-untyped-call]
        config.here = self.device
        with some_device(), _every_device():
            yield {"parallel_config": config}


def why_not(kind: Any, path: Path, speed: Speed, parallel: Parallel) -> str | None:
    """Why the weights of such a transformer cannot be divided; None if they can."""
    if getattr(kind, "_tp_plan", None) is None:
        return f"diffusers has no plan to divide the weights of {kind.__name__}"
    for flag, given in (
        ("--compile", speed.compile),
        ("--quantize", speed.quantize),
        ("--step-cache", speed.step_cache),
    ):
        if given:
            return f"tensor={parallel.tensor} does not go with {flag}"
    heads = kind.load_config(path).get("num_attention_heads")
    if isinstance(heads, int) and heads % parallel.tensor:
        return (
            f"{kind.__name__} has {heads} attention heads, which tensor={parallel.tensor} does "
            "not divide"
        )
    return None


class _Config(TensorParallelConfig):
    """diffusers takes the device by the rank's number; a rank's own may be another one."""

    here: torch.device

    def setup(self, rank: int, world_size: int, device: torch.device, mesh: DeviceMesh) -> None:
        super().setup(rank, world_size, self.here, mesh)  # type: ignore[misc]


@contextlib.contextmanager
def _every_device() -> Iterator[None]:
    """diffusers leaves CPUs out, on which it computes the same."""
    before = tensor_parallel._SUPPORTED_TP_DEVICES
    tensor_parallel._SUPPORTED_TP_DEVICES = (*before, "cpu")  # type: ignore[assignment]
    try:
        yield
    finally:
        tensor_parallel._SUPPORTED_TP_DEVICES = before
