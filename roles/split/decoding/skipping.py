"""How the decoder's pipeline gets past its denoising loop without a transformer.

`interrupt`: loop bodies begin with `if self.interrupt: continue`, the property says yes.
`empty`: where a class has no such property, the timestep scheduler has no timesteps.
`zeros`: where the code before the loop reads the timesteps, or the code after it what the loop
defined, the loop runs with a transformer that gives zeros.
"""

import functools
import inspect
from typing import Any, Literal

import torch

from roles.split.decoding.boundary import Given
from roles.split.denoising.forward import Outputs
from transfer.record import Record


class NotSkipped(RuntimeError):
    """The loop was left out, and the pipeline cannot do without it: what is before it reads the
    timesteps, or what is after it a variable of its body, or the shape of latents that its body
    shortens. `zeros` is the way then."""


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


class Zeros:
    """The forwards of one request that compute nothing: zeros of the forms that the denoiser's
    outputs had (`forward.Outputs.tree`), in their order, or of the latents' shape.

    Raises Unsplittable at a forward that the denoiser did not come to, if `decodes` have begun: the
    pipeline works there on what it has decoded, which a denoiser does not have.
    """

    def __init__(self, forms: dict[str, Any] | None, decodes: Given | None = None) -> None:
        self._outputs = Outputs.of(forms) if forms else Outputs()
        self._decodes = decodes if forms else None
        self._number = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._number += 1
        try:
            return self._outputs.zeros(self._number - 1)
        except LookupError as error:
            if self._decodes is not None and self._decodes.begun:
                raise self._decodes.ended_before() from error
            return zeros(*args, **kwargs)


def zeros(*args: Any, **kwargs: Any) -> Record:
    """A transformer's forward that computes nothing: zeros of the latents' shape."""
    names = ("hidden_states", "sample", "x")
    latents = next(v for v in (*args, *map(kwargs.get, names)) if v is not None)
    if isinstance(latents, list):
        return Record(sample=[torch.zeros_like(each) for each in latents])
    return Record(sample=torch.zeros_like(latents))
