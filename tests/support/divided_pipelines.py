"""What the ranks of `tests.support.ranks` do with tiny random pipelines, loaded as by a role."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from roles.rank.stepping import Stepper
from roles.rank.world import World
from roles.refusals import Unsupported
from roles.split.denoising.batching import key_of, tensors
from roles.split.loading import load
from roles.split.program import Call, Denoising
from tests.support import pipelines
from transfer.actions import UpdateWeights
from transfer.messages import Inputs, Speed

PARAMS: dict[str, dict[str, Any]] = {
    **pipelines.PARAMS,
    "flux": {**pipelines.PARAMS["flux"], "negative_prompt": "blurry", "true_cfg_scale": 2.0},
    "qwenimage_even": pipelines.PARAMS["qwenimage"],
}


class Live:
    """One request in a rank, as `roles.rank.stepping` sees it."""

    stops = False

    def __init__(self, denoising: Denoising, exact: bool) -> None:
        self.denoising = denoising
        self._exact = exact

    @property
    def batch_key(self) -> str | None:
        pending = self.denoising.pending
        return key_of(pending[0]) if pending and not self._exact else None


def reference(world: World, names: list[str], folder: str) -> str:
    """Builds the pipelines, and keeps what one rank gives: bit for bit what the plain one does."""
    for name in names:
        pipelines.build(name, Path(folder) / name)
        made, _ = _denoised(None, name, folder, exact=True)
        save_file(made, Path(folder) / f"{name}.safetensors")
    return "built"


def compare(world: World, name: str, folder: str, exact: bool = False) -> dict[str, Any]:
    """How far a divided request is from that of one rank, relative, and what each forward of this
    rank had: samples, and the tokens of its attention."""
    made, forwards = _denoised(world, name, folder, exact)
    known = load_file(Path(folder) / f"{name}.safetensors")
    assert made.keys() == known.keys()
    apart = [_apart(made[key], known[key]) for key in known]
    return {"apart": max(apart), "tensors": len(apart), "forwards": forwards}


def _apart(made: torch.Tensor, known: torch.Tensor) -> float:
    """Relative; states of random generators are the same, or a world apart."""
    if not made.is_floating_point():
        return 0.0 if torch.equal(made, known) else float("inf")
    return float((made - known).norm() / known.norm())


def refused(world: World, name: str, folder: str, attention: str | None = None) -> str:
    """Why the model does not load so."""
    try:
        _loaded(world, name, folder, attention)
    except Exception as error:
        return str(error)
    return "loaded"


def _loaded(world: World | None, name: str, folder: str, attention: str | None = None) -> Any:
    context = world.parallel.context if world else None
    speed = Speed("float32", attention=attention, context=context)
    divided = {"world": world} if context else {}
    roles = ("encoder", "denoiser")
    return load(Path(folder) / name, roles, "float32", "cpu", speed, **divided)


def _denoised(
    world: World | None, name: str, folder: str, exact: bool
) -> tuple[dict[str, torch.Tensor], list[list[int]]]:
    program = _loaded(world, name, folder)
    forwards: list[list[int]] = []
    for part in program.of_part("denoiser").values():
        _watch(part, forwards)
    call = Call(name, Inputs(PARAMS[name], seed=3, exact=exact))
    live = Live(program.denoise(call, program.encode(call)), exact)
    live.denoising.start()
    stepper = Stepper(lambda: None, 0.0, lambda: False, world=world)
    while not live.denoising.done:
        turn = stepper.take([live])
        assert turn.errors == [None], turn.errors
    found = tensors(live.denoising.result()["decodes"])
    return {str(i): each.contiguous() for i, each in enumerate(found)}, forwards


def _watch(transformer: Any, forwards: list[list[int]]) -> None:
    """Notes each forward: how many samples, and how many tokens come to its first linear layer."""

    def begins(_: Any, args: Any, kwargs: Any) -> None:
        first = next(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor | list))
        forwards.append([len(first), 0])

    def computes(_: Any, args: Any) -> None:
        forwards[-1][1] = max(forwards[-1][1], args[0].shape[1] if args[0].ndim == 3 else 0)

    transformer.register_forward_pre_hook(begins, with_kwargs=True)
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(computes)


def sharded(world: World, name: str, folder: str) -> dict[str, Any]:
    """What of the weights a rank has, and why they stay as they are."""
    program = _loaded(world, name, folder)
    (transformer,) = program.of_part("denoiser").values()
    whole = sum(each.numel() for each in transformer.parameters())
    mine = sum(_local(each).numel() for each in transformer.parameters())
    other = UpdateWeights(str(Path(folder) / name), components=["transformer"])
    tries = {
        "sleep": lambda: program.sleeper.sleep(1),
        "drop": lambda: program.sleeper.sleep(2),
        "update": lambda: program.exchange.update(other),
        "lora": lambda: program.adapters.load("style", folder),
    }
    return {"share": mine / whole, **{what: _refusal(each) for what, each in tries.items()}}


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _refusal(change: Callable[[], Any]) -> str:
    try:
        change()
    except Unsupported as reason:
        return str(reason)
    return "done"
