"""What a request's pipeline sees in the place of a component.

The pipeline runs unmodified, on a copy of its own attributes whose components are faces: they pose
as the component (isinstance, config, dtype, sub-modules) and answer chosen methods differently. A
face belongs to one request; the component behind it is shared and stays as it is.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from roles.split.skeleton import hollow_copy

Answer = Callable[..., Any]

# the ways into an autoencoder's first half; pipelines that want the bare moments take the second
ENCODES = ("encode", "_encode")
# what computes; a face whose component is not this role's own refuses these
COMPUTE = (
    "__call__",
    "forward",
    *ENCODES,
    "decode",
    "generate",
    "tiled_encode",
    "tiled_decode",
    "get_text_features",
    "get_image_features",
)


class NotHere(RuntimeError):
    """The pipeline wanted to compute with a component whose weights another role has. `method`: by
    which of its methods."""

    def __init__(self, message: str, method: str = "") -> None:
        super().__init__(message)
        self.method = method


class Face:
    """Poses as `component` and answers the methods in `answers` itself.

    Attributes that a pipeline sets stay on the face.
    """

    def __init__(self, component: Any, answers: dict[str, Answer] | None = None) -> None:
        # past __getattr__ and whatever the pose would make of them
        self.__dict__.update(_component=component, _answers=answers or {})

    __class__ = property(lambda self: self._component.__class__)

    def __getattr__(self, name: str) -> Any:
        if name in ("_component", "_answers"):  # not set yet: somebody copies this
            raise AttributeError(name)
        answer = self._answers.get(name)
        return getattr(self._component, name) if answer is None else answer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._answers.get("__call__") or self._answers.get("forward")
        return (answer or self._component)(*args, **kwargs)

    def __bool__(self) -> bool:
        return True

    def answer(self, method: str, answer: Answer) -> None:
        """Lets the face answer one more method."""
        self._answers[method] = answer

    def to(self, *args: Any, **kwargs: Any) -> "Face":
        """Moves or casts the component, as the plain pipeline would."""
        self._component.to(*args, **kwargs)
        return self


class Own(Face):
    """A face whose component is the request's own too: what a pipeline sets goes through."""

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._component, name, value)

    @property
    def component(self) -> Any:
        """The request's own component."""
        return self._component


class StandIn(Face):
    """Poses as a component that does not compute here: everything but the answers refuses.

    `component` is a skeleton without weights (`roles.split.skeleton`), or the real module of
    another role in the same process. A cast is made on a weightless copy of the request's own.
    """

    def __init__(
        self,
        name: str,
        component: Any,
        device: torch.device,
        answers: dict[str, Answer] | None = None,
    ) -> None:
        refusals = {method: _refuse(name, method, component) for method in COMPUTE}
        super().__init__(component, refusals | (answers or {}))
        self.__dict__.update(_name=name, device=device)

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if isinstance(value, torch.nn.Module) and not hasattr(value, "__getitem__"):
            # some computations with weights on the meta device give memory that nobody wrote to
            return StandIn(f"{self._name}.{name}", value, self.device)
        return value

    def for_request(self, answers: dict[str, Answer]) -> "StandIn":
        """A request's own stand-in of the same component."""
        return type(self)(self._name, self._component, self.device, answers)

    @property
    def component(self) -> Any:
        """What it poses as."""
        return self._component

    def to(self, *args: Any, **kwargs: Any) -> "StandIn":
        given = (*args, *kwargs.values())
        dtype = next((value for value in given if isinstance(value, torch.dtype)), None)
        if dtype is not None and dtype != getattr(self._component, "dtype", dtype):
            self.__dict__["_component"] = hollow_copy(self._component).to(dtype)
        return self


class Unposed(StandIn):
    """A stand-in that does not pass for its component's class (see `roles.split.quirks`)."""

    __class__ = property(lambda self: Unposed)


class Watched(Face):
    """Poses as a real encoder, and tells whoever watches when it computes.

    `compute(name, function, args, kwargs)` makes every call of the component's methods; `name` is
    None for a call of a sub-module, or of a method that is not one of the usual ways in. `generate`
    takes the place of the component's own, if there is one.
    """

    def __init__(
        self, component: Any, compute: Callable[..., Any], generate: Answer | None = None
    ) -> None:
        super().__init__(component)
        self.__dict__.update(_compute=compute, _generate=generate)

    def __getattr__(self, name: str) -> Any:
        if name == "generate" and self._generate is not None:
            return self._telling(name, self._generate)
        value = getattr(self._component, name)
        if isinstance(value, torch.nn.Module) and not hasattr(value, "__getitem__"):
            return Watched(value, lambda _name, *rest: self._compute(None, *rest))
        if inspect.ismethod(value) and (name in COMPUTE or not hasattr(torch.nn.Module, name)):
            return self._telling(name if name in COMPUTE else None, value)
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compute("__call__", self._component, args, kwargs)

    def _telling(self, name: str | None, method: Answer) -> Answer:
        return lambda *args, **kwargs: self._compute(name, method, args, kwargs)


def _refuse(name: str, method: str, component: Any) -> Answer:
    @functools.wraps(getattr(component, method, object))  # pipelines look at its signature
    def refuse(*args: Any, **kwargs: Any) -> Any:
        message = f"the pipeline wants {name}.{method}, whose weights are not in this role"
        raise NotHere(message, method)

    return refuse
