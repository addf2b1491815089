"""A tensor that stands for a result which nobody has computed yet.

It knows its shape, dtype and device. Whatever needs more than that makes its request wait for the
value, and from then on it is a plain tensor: not a wrapper around one, the very object becomes it.
So nothing of this is left in a pipeline's variables, in the history of its timestep scheduler, or
in a checkpoint.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils import swap_tensors

_Tensor = torch.Tensor

# What is answered without the value. `device` is the one that the value will be on.
FACTS = {
    *(getattr(_Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "layout")),
    *(getattr(_Tensor, name).__get__ for name in ("is_cuda", "is_cpu", "itemsize")),
    *(_Tensor.size, _Tensor.dim, _Tensor.ndimension, _Tensor.numel, _Tensor.nelement),
    *(_Tensor.__len__, _Tensor.is_floating_point, _Tensor.is_complex, _Tensor.element_size),
    *(torch.numel, torch.is_floating_point, torch.is_complex, torch.is_tensor),
}

# What pipelines do with one branch before they ask for the next. It is done when the value is
# there, before anything else is, so in the order in which they asked for it.
DEFERRED = {
    _Tensor.__getitem__,
    _Tensor.float,
    _Tensor.to,
    _Tensor.chunk,
    torch.chunk,
    _Tensor.squeeze,
    _Tensor.unsqueeze,
}
_WORDS = (int, slice, type(None), type(Ellipsis), torch.dtype)  # and no devices


class Unready(torch.Tensor):
    """A tensor of known shape without its numbers; `roles.split.denoising.branches` makes and fills
    them.

    `settle(here)` computes everything that its request has asked for, and fills this one in;
    `here`: on the spot, because torch has put aside what other requests must not miss. `like` is a
    tensor of the same shape on the meta device; `note` hears of what is derived from this one.
    """

    like: torch.Tensor
    _settle: Callable[[bool], None]
    _note: Callable[["Unready", Callable[[], torch.Tensor]], None]
    _value: torch.Tensor | None

    def __new__(
        cls,
        like: torch.Tensor,
        device: torch.device,
        settle: Callable[[bool], None],
        note: Callable[["Unready", Callable[[], torch.Tensor]], None],
    ) -> "Unready":
        made: Unready = _Tensor._make_wrapper_subclass(
            cls, like.shape, dtype=like.dtype, device=device
        )
        made.like, made._settle, made._note, made._value = like, settle, note, None
        return made

    def fill(self, value: torch.Tensor) -> None:
        """Becomes this value. Where somebody holds what cannot be exchanged (a weak reference),
        it stays a wrapper that hands everything on."""
        with torch._C.DisableTorchFunctionSubclass():
            own = value.detach()  # what others hold of the value stays theirs
            try:
                swap_tensors(self, own)  # type: ignore[no-untyped-call]
            except RuntimeError:
                self._value = value

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FACTS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in DEFERRED and _can_wait(args, kwargs):
            return _derive(func, args, kwargs)
        _wait((args, kwargs), here=False)
        return func(*_values(args), **_values(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Only what passes by `__torch_function__` comes here: compiled extensions."""
        _wait((args, kwargs), here=True)
        return func(*_values(args), **_values(kwargs or {}))


def unready(value: Any) -> Iterable[Unready]:
    """All that are left in nested arguments."""
    if isinstance(value, Unready):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from unready(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from unready(each)


def _wait(arguments: Any, here: bool) -> None:
    for each in list(unready(arguments)):
        if type(each) is Unready and each._value is None:
            each._settle(here)
        if type(each) is Unready and each._value is None:
            raise RuntimeError("this was never computed: its request has ended")


def _values(value: Any) -> Any:
    """Arguments in which every result is a plain tensor."""
    if type(value) is Unready:
        return value._value
    if type(value) in (list, tuple):
        return type(value)(map(_values, value))
    if type(value) is dict:
        return {name: _values(each) for name, each in value.items()}
    return value


def _can_wait(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    first, *others = args
    words: list[Any] = [*others, *kwargs.values()]
    words += [word for each in others if type(each) is tuple for word in each]
    known = all(type(word) in (*_WORDS, tuple) for word in words)
    return type(first) is Unready and first._value is None and known


def _derive(func: Any, args: tuple[Unready, *tuple[Any, ...]], kwargs: dict[str, Any]) -> Any:
    parent, *others = args
    likes = func(parent.like, *others, **kwargs)
    if likes is parent.like:
        return parent
    if isinstance(likes, torch.Tensor):
        return _child(parent, likes, lambda: func(parent, *others, **kwargs))
    parts = _Once(lambda: func(parent, *others, **kwargs))
    return tuple(
        _child(parent, like, lambda index=index: parts()[index])  # type: ignore[misc]
        for index, like in enumerate(likes)
    )


def _child(parent: Unready, like: torch.Tensor, make: Callable[[], torch.Tensor]) -> Unready:
    with torch._C.DisableTorchFunctionSubclass():
        made = Unready(like, parent.device, parent._settle, parent._note)
    parent._note(made, make)
    return made


class _Once:
    """Calls a function when its result is first wanted."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None

    def __call__(self) -> Any:
        if self._result is None:
            self._result = self._function()
        return self._result
