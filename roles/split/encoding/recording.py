"""Encode and record: the pipeline runs to its first forward, and what its encoders gave is kept.

Kept is what every plain method of the pipeline returned in which an encoder computed (in practice
`encode_prompt`, once or twice, or `encode_image`), and what an encoder gave that the pipeline
called without such a method. The VAE's `encode` is kept as the distribution that it returned, so
that the sampling happens where it belongs in the order of random draws: in the denoiser.
"""

import functools
import inspect
from typing import Any

import torch
from diffusers import DiffusionPipeline

from roles.split.encoding.feeding import Feeding, without_fed
from roles.split.encoding.recollection import Recollection
from roles.split.encoding.replay import own
from roles.split.face import Watched

# (method or component.method, what it returned, the generator's state afterwards if it drew)
Kept = tuple[str, Any, torch.Tensor | None]


class Recorder:
    """Watches one request's encoders. `kept` is in the order of the calls.

    What `memory` finds again is not computed, and is kept just the same. `feeding`: what of it only
    other encoders read.
    """

    def __init__(
        self, generator: torch.Generator, memory: Recollection, feeding: Feeding | None = None
    ) -> None:
        self.kept: list[Kept] = []
        self._feeding = feeding or {}
        self._generator = generator
        self._memory = memory
        self._method: str | None = None
        self._computed = False

    def watch(self, name: str, encoder: Any, generate: Any = None) -> Watched:
        """The face of an encoder. `generate`: what it generates with instead of its own."""

        def compute(method: str | None, function: Any, args: Any, kwargs: Any) -> Any:
            self._computed = True
            if method == "generate":
                self._memory.wrote()
            if self._method is None and method is not None:
                return self._component(f"{name}.{method}", function, args, kwargs)
            return function(*args, **kwargs)

        return Watched(encoder, compute, generate)

    def watch_latents(self, name: str, part: str, encode: Any) -> Any:
        """The `encode` of a VAE, or one of its modules that a pipeline calls by itself, such as the
        quantizer."""

        def keep(*args: Any, **kwargs: Any) -> Any:
            return self._component(f"{name}.{part}", encode, args, kwargs)

        return keep

    def method(self, name: str, bound: Any) -> Any:
        """A method of the pipeline, kept if an encoder computes while it runs."""

        @functools.wraps(bound)
        def keep(*args: Any, **kwargs: Any) -> Any:
            if self._method is not None:
                return bound(*args, **kwargs)
            sought = self._memory.seek_method(name, args, kwargs)
            if sought.found:
                self.kept.append((name, self._crossing(name, sought.value), None))
                return own(sought.value)
            before, state = len(self.kept), self._generator.get_state()
            self._method, self._computed = name, False
            try:
                result = bound(*args, **kwargs)
            finally:
                self._method = None
            if not self._computed:
                sought.encoded_nothing()
                return result
            # what happened inside is contained in the result
            draws = self._draws_since(state)
            kept = own(result)
            self.kept[before:] = [(name, self._crossing(name, kept), draws)]
            sought.computed(kept, draws is not None)
            return result

        return keep

    def _crossing(self, method: str, kept: Any) -> Any:
        """Of a method's result, without what only feeds other encoders."""
        return without_fed(kept, self._feeding.get(method, ()))

    def _component(self, name: str, function: Any, args: Any, kwargs: Any) -> Any:
        """A component's own method, and what it gave."""
        sought = self._memory.seek(name, args, kwargs)
        if sought.found:
            self.kept.append((name, sought.value, None))
            return own(sought.value)
        result = function(*args, **kwargs)
        kept = own(result)
        sought.computed(kept, drew=False)  # it was given no generator, or has no key
        self.kept.append((name, kept, None))
        return result

    def _draws_since(self, state: torch.Tensor) -> torch.Tensor | None:
        now = self._generator.get_state()
        return None if torch.equal(now, state) else now


def own_methods(kind: type) -> list[str]:
    """The names of a pipeline class's plain methods that are not every pipeline's."""
    names = [n for n in dir(kind) if not n.startswith("__") and not hasattr(DiffusionPipeline, n)]
    return [n for n in names if inspect.isfunction(inspect.getattr_static(kind, n))]
