"""What a timestep scheduler thinks the picture will be, in the middle of the loop.

After each step, x0, the clean latents that the model's output predicts, can be told from what the
step was given. Schedulers differ in what the model's output means; those that are not understood
give their noisy latents.

- FlowMatch*: v = noise - x0, and x_sigma = (1 - sigma) x0 + sigma noise (Lipman et al. 2022).
- DPM-Solver++, UniPC and the like keep the x0 that they predicted (Lu et al. 2022).
- Euler, Heun, LMS …: x = x0 + sigma noise (Karras et al. 2022); v as in Salimans & Ho 2022.
- DDIM, DDPM, LCM …: x = sqrt(a) x0 + sqrt(1 - a) noise, a = alphas_cumprod[t].
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

_GIVEN = ("model_output", "timestep", "sample")


class LastStep:
    """Watches a request's own timestep scheduler, and remembers what its latest step was about.

    `values` is how many of them a step returns in a tuple, None if it returns an output object:
    whoever poses as the scheduler answers alike.
    """

    def __init__(self, scheduler: Any) -> None:
        self.values: int | None = None
        self._scheduler = scheduler
        self._given: dict[str, Any] = {}
        self._result: torch.Tensor | None = None
        self._arguments = inspect.signature(scheduler.step)
        scheduler.step = Watched(scheduler, self._note)

    @property
    def taken(self) -> bool:
        """Whether there was a step."""
        return self._result is not None

    @property
    def result(self) -> torch.Tensor | None:
        """What the latest step gave, if there was one."""
        return self._result

    def restart(self, result: torch.Tensor | None) -> None:
        """The latest step gave this; what it was given is not known. None: as if there had been
        none."""
        self._given, self._result = dict.fromkeys(_GIVEN), result

    def clean(self) -> torch.Tensor:
        """The predicted clean latents, or else those that the step gave."""
        result = self._result
        assert result is not None, "no step was taken"
        predicted = _predicted(self._scheduler, **self._given)
        usable = predicted is not None and predicted.shape == result.shape
        if predicted is None or not usable or not bool(predicted.isfinite().all()):
            return result
        return predicted.to(result.dtype)

    def _note(self, args: Any, kwargs: Any, result: Any) -> None:
        given = self._arguments.bind(*args, **kwargs).arguments
        self._given = {name: given.get(name) for name in _GIVEN}
        plain = isinstance(result, tuple)
        self.values = len(result) if plain else None
        self._result = result[0] if plain else result.prev_sample


class Watched:
    """A scheduler's method that tells of each call. A copy of the scheduler, which some pipelines
    make for another modality, has its own method, and nobody is told."""

    def __init__(
        self, scheduler: Any, tell: Callable[[Any, Any, Any], None], method: str = "step"
    ) -> None:
        original = getattr(scheduler, method)
        functools.update_wrapper(self, original)  # pipelines look at its signature
        self._scheduler = scheduler
        self._name = method
        self._method = original
        self._tell = tell

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._method(*args, **kwargs)
        self._tell(args, kwargs, result)
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._scheduler))
        return self if copied is None else getattr(type(copied), self._name).__get__(copied)


def _predicted(
    scheduler: Any, model_output: Any, timestep: Any, sample: Any
) -> torch.Tensor | None:
    if not isinstance(model_output, torch.Tensor) or not isinstance(sample, torch.Tensor):
        return None
    config = scheduler.config
    solver = getattr(scheduler, "model_outputs", None)
    if solver is not None:
        keeps = config.get("predict_x0") or "++" in str(config.get("algorithm_type"))
        return solver[-1] if keeps else None
    kind = config.get("prediction_type", "epsilon")
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        return _variance_preserving(scheduler, kind, model_output, timestep, sample)
    sigma = _last_sigma(scheduler, sigmas).to(sample.device)
    if hasattr(scheduler, "scale_noise"):
        return sample - sigma * model_output
    return _variance_exploding(kind, model_output, sample, sigma)


def _last_sigma(scheduler: Any, sigmas: torch.Tensor) -> torch.Tensor:
    """That of the step that was taken: the scheduler stands at the next one already."""
    return sigmas[max(0, (scheduler.step_index or 1) - 1)]


def _variance_exploding(
    kind: str, output: torch.Tensor, sample: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor | None:
    if kind == "epsilon":
        return sample - sigma * output
    if kind == "v_prediction":
        return sample / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
    return output if kind == "sample" else None


def _variance_preserving(
    scheduler: Any, kind: str, output: torch.Tensor, timestep: Any, sample: torch.Tensor
) -> torch.Tensor | None:
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or timestep is None:
        return None
    alpha: torch.Tensor = alphas[int(timestep)].to(sample.device)
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    if kind == "epsilon":
        return (sample - noise * output) / signal
    if kind == "v_prediction":
        return signal * sample - noise * output
    return output if kind == "sample" else None
