"""How the decoder's pipeline gets past its denoising loop without a transformer.

`interrupt`: loop bodies begin with `if self.interrupt: continue`, the property says yes.
`empty`: where a class has no such property, the timestep scheduler has no timesteps.
`zeros`: where the code after the loop needs what the loop defined, or calls the transformer outside
of it, the loop runs with a transformer that gives nothing but shapes.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Literal

import torch

from roles.split.forward import Outputs
from transfer.record import Record

Skip = Literal["interrupt", "empty", "zeros"]


def skip_of(kind: type) -> Skip:
    """The way that suits a pipeline class, `zeros` left out: only a run shows that."""
    return "interrupt" if "self.interrupt" in inspect.getsource(kind.__call__) else "empty"


def interrupted(kind: type) -> type:
    """The pipeline class, always interrupted. Pipelines set the property when they begin."""
    always = property(lambda self: True, lambda self, value: None)
    return type(kind.__name__, (kind,), {"interrupt": always, "__module__": kind.__module__})


def empty_schedule(scheduler: Any) -> None:
    """Lets a request's own scheduler have no timesteps, whatever is asked of it."""
    kind = type(scheduler)
    if hasattr(scheduler, "init_noise_sigma"):  # computed from the timesteps in some
        scheduler.__class__ = type(kind.__name__, (kind,), {"init_noise_sigma": 1.0})
    original = scheduler.set_timesteps

    @functools.wraps(original)  # pipelines look at its signature
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        scheduler.timesteps = scheduler.timesteps[:0]

    scheduler.set_timesteps = set_timesteps


def forward(forms: dict[str, Any] | None) -> Callable[..., Any]:
    """A transformer that computes nothing. `forms`: what the forwards of the loop gave, in their
    order, where they gave more than one tensor (`roles.split.forward.Outputs`)."""
    if forms is None:
        return zeros
    outputs, numbers = Outputs.of(forms), itertools.count()
    return lambda *args, **kwargs: outputs.form(next(numbers))


def zeros(*args: Any, **kwargs: Any) -> Record:
    """A transformer's forward that computes nothing: zeros of the latents' shape."""
    names = ("hidden_states", "sample", "x")
    latents = next(v for v in (*args, *map(kwargs.get, names)) if v is not None)
    if isinstance(latents, list):
        return Record(sample=[torch.zeros_like(each) for each in latents])
    return Record(sample=torch.zeros_like(latents))
