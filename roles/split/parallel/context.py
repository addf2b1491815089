"""`--parallel ulysses=N,ring=N`: diffusers' context parallelism, on the transformers with a plan.

Each rank computes some of the tokens of a sample, and the ranks exchange what attention needs of
the others (Ulysses: heads for tokens; ring: keys and values). Any number of tokens will do where
ranks are joined by NCCL (gloo gathers only parts of one length), and for Ulysses any number of
heads that leaves no rank without one.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ContextParallelConfig

from roles.parallel import Parallel
from roles.split.files.components import brief
from roles.split.program import ModelError
from roles.split.quirks import NOT_DIVIDED
from transfer.messages import Speed

if TYPE_CHECKING:
    from roles.rank.world import World

# Attention that tells the weight of what it summed, without which rings cannot add up.
RING_BACKENDS = ("flash", "flash_hub", "_native_cudnn", "_native_flash", "sage", "sage_hub")


def divide_tokens(parts: Mapping[str, Any], speed: Speed, world: "World") -> None:
    """Raises ModelError, with what is supported instead."""
    parallel = world.parallel
    for part in parts.values():
        if (reason := why_not(part, speed, parallel)) is not None:
            raise ModelError(
                f"--parallel {parallel}: {reason}; --parallel guidance={parallel.ranks} goes with "
                "every model"
            )
        try:
            with some_device():
                part.enable_parallelism(config=_config(parallel, world.mesh))
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"--parallel {parallel}: {brief(error)}") from error


def why_not(part: Any, speed: Speed, parallel: Parallel) -> str | None:
    """Why the tokens of this transformer cannot be divided like this; None if they can."""
    kind = type(part).__name__
    if getattr(part, "_cp_plan", None) is None:
        return f"diffusers has no plan to divide the tokens of {kind}"
    if kind in NOT_DIVIDED:
        return NOT_DIVIDED[kind]
    if speed.compile:
        return f"{parallel.context} does not go with --compile"
    if speed.step_cache is not None:
        return f"{parallel.context} does not go with --step-cache"
    if parallel.ring > 1 and speed.attention not in RING_BACKENDS:
        return f"ring needs --attention-backend {', '.join(RING_BACKENDS[:-1])} or sage_hub"
    heads = getattr(part.config, "num_attention_heads", None)
    if isinstance(heads, int) and not _divides(heads, parallel.ulysses):
        return f"{kind} has {heads} attention heads, too few for ulysses={parallel.ulysses}"
    return None


def _divides(heads: int, ranks: int) -> bool:
    """Whether every rank has a head that is not filled up: diffusers wants that."""
    each = -(-heads // ranks)
    return each * ranks - heads < each


def _config(parallel: Parallel, mesh: Any) -> ContextParallelConfig:
    alone = parallel.ring == 1 or parallel.ulysses == 1
    return ContextParallelConfig(  # type: ignore[no-untyped-call]
        ring_degree=parallel.ring,
        ulysses_degree=parallel.ulysses,
        ulysses_anything=alone and parallel.ulysses > 1,
        ring_anything=alone and parallel.ring > 1,
        mesh=mesh,
    )


@contextlib.contextmanager
def some_device() -> Iterator[None]:
    """diffusers divides by the number of accelerators, for a device that it does not use."""
    count = torch.accelerator.device_count
    torch.accelerator.device_count = lambda: count() or 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count
