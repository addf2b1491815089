"""What a role's denoiser can do faster for a request, and what it refuses."""

from collections.abc import Mapping
from typing import Any

import msgspec

from roles.split.denoising.step_cache import supported
from roles.split.program import ModelError, Unavailable
from transfer.messages import Inputs, ModelInfo, Speed, StepCache, StepCacheType
from transfer.speed import chosen, switches


class Fast:
    """The switches of one role, and the step caches of each of its denoisers.

    `denoisers` by component name; `speed` None: this role does not denoise. Raises ModelError for a
    step cache that requests are to have by themselves, and the model has not.
    """

    def __init__(self, pipeline: Any, denoisers: Mapping[str, Any], speed: Speed | None) -> None:
        self._speed = speed
        self._caches: dict[str, list[StepCacheType]] = {}
        # ranks with some of the tokens each would not skip the same steps
        if speed is not None and speed.context is None:
            self._caches = {name: supported(pipeline, part) for name, part in denoisers.items()}
            self._check(speed.step_cache)

    def describe(self, info: ModelInfo) -> ModelInfo:
        return msgspec.structs.replace(info, speed=self._speed, step_caches=self._known)

    @property
    def _known(self) -> list[StepCacheType]:
        return list({kind: None for kinds in self._caches.values() for kind in kinds})

    def _check(self, default: StepCache | None) -> None:
        if default is not None and default.type not in self._known:
            known = ", ".join(self._known) or "no step cache at all"
            raise ModelError(
                f"--step-cache {default.type}: this model, started like this, has {known}"
            )

    def cache_of(self, inputs: Inputs) -> StepCache | None:
        """The request's step cache. Raises `Unavailable`: the door has checked it, but this role
        may not have been there then."""
        cache = chosen(self._speed, inputs.step_cache)
        if inputs.exact and (on := switches(self._speed, inputs.step_cache)):
            raise Unavailable(f"exact does not go with {', '.join(on)}", "exact")
        if cache is not None and cache.type not in self._known:
            raise Unavailable(f"this model has no step cache {cache.type}", "step_cache")
        return cache

    def caches(self, name: str, cache: StepCache | None) -> bool:
        """Whether the component of this name has such a step cache."""
        return cache is not None and cache.type in self._caches.get(name, ())
