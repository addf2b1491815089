"""A request's parameters: the plain arguments of the pipeline's own `__call__`, checked by name.

What a request may give is derived from the signature: arguments that take text, numbers, truth
values, or lists of them. Tensors, images, callbacks and everything that decides how the roles work
together are not a request's to set.
"""

import contextlib
import copy
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from roles.split.program import BadInput
from roles.split.request.given import media_arguments
from transfer.messages import Parameter

# The roles set these themselves, or they would make more samples than one.
_OURS = {
    "batch_size",
    "callback",
    "callback_steps",
    "generator",
    "latents",
    "output_type",
    "return_dict",
}
# Files of this host, which a request may not name: what it brings along is media (`given`).
_FILES = {"fonts"}
_FILES_BY_ENDING = ("path", "paths", "file", "files", "filename", "folder", "dir", "url", "urls")
_OURS_BY_ENDING = ("_per_prompt", "_embeds", "_mask", "_kwargs", "_tensor_inputs")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PLAIN = (str, bool, int, float)
_AT_LEAST_ONE = {"height", "width", "num_frames", "num_inference_steps"}
_NAMES = {str: "text", bool: "true or false", int: "an integer", float: "a number"}


@dataclass(frozen=True)
class Argument:
    """One argument that a request may give. `scalars`: the types of a single value; `items`: those
    inside of a list; `sequence`: what the pipeline wants a list as."""

    name: str
    scalars: frozenset[type]
    items: frozenset[type]
    sequence: type
    required: bool
    default: Any

    def describe(self) -> Parameter:
        words = sorted(kind.__name__ for kind in self.scalars)
        words += [f"list[{kind.__name__}]" for kind in sorted(self.items, key=str)]
        default = self.default if isinstance(self.default, _PLAIN) else None
        return Parameter(self.name, " | ".join(words), self.required, default)

    def accept(self, value: Any) -> Any:
        """The value as the pipeline wants it, the request's own copy. Raises BadInput."""
        if isinstance(value, list):
            if not all(_fits(item, self.items) for item in _leaves(value)) or not self.items:
                raise self._refusal(value)
            return self._as_sequence(value)
        if value is None and not self.required:
            return None
        if not _fits(value, self.scalars):
            raise self._refusal(value)
        if self.name in _AT_LEAST_ONE and value < 1:
            raise BadInput(f"{self.name} must be at least 1, not {value}", self.name)
        return value

    def _as_sequence(self, value: list[Any]) -> Any:
        items = [self._as_sequence(item) if isinstance(item, list) else item for item in value]
        return self.sequence(items)

    def _refusal(self, value: Any) -> BadInput:
        words = [_NAMES[kind] for kind in _PLAIN if kind in self.scalars]
        words += ["a list"] if self.items else []
        given = f"{value!r:.60}"
        return BadInput(f"{self.name} must be {' or '.join(words)}, not {given}", self.name)


def arguments(call: Callable[..., Any]) -> dict[str, Argument]:
    """The arguments of a pipeline's `__call__` that a request may give."""
    media, named = media_arguments(call), inspect.signature(call).parameters
    return arguments_of(call, {name: each for name, each in named.items() if name not in media})


def arguments_of(
    of: Callable[..., Any], named: Mapping[str, inspect.Parameter]
) -> dict[str, Argument]:
    """The same of some parameters of a function, or of a class with annotated fields."""
    hints, found = hints_of(of), {}
    for name, parameter in named.items():
        closed = _is_ours(name) or _is_file(name, hints.get(name))
        if not closed and parameter.kind in _NAMED:
            argument = _argument(parameter, hints.get(name))
            if argument.scalars or argument.items:
                found[name] = argument
    return found


def accept(known: Mapping[str, Argument], params: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a request, its own copies. Raises BadInput naming the field."""
    given = {}
    for name, value in params.items():
        if name not in known:
            raise BadInput(f"this model has no parameter {name}", name)
        given[name] = copy.deepcopy(known[name].accept(value))
    for name, argument in known.items():
        if argument.required and given.get(name) is None:
            raise BadInput(f"{name} is missing", name)
    return given


def check_sizes(params: Mapping[str, Any], multiple: int) -> None:
    """Raises BadInput(param="size") for sides that the model cannot make."""
    for side in ("height", "width"):
        if params.get(side) and params[side] % multiple:
            words = f"{side} must be a multiple of {multiple} with this model, not {params[side]}"
            raise BadInput(words, "size")


def _is_ours(name: str) -> bool:
    return (
        name in _OURS
        or name == "self"
        or name.startswith("_")
        or name.startswith("callback_on")
        or name.endswith(_OURS_BY_ENDING)
    )


def _is_file(name: str, hint: Any) -> bool:
    ends = name.split("_")[-1] in _FILES_BY_ENDING
    return ends or name in _FILES or any(_is_path(option) for option in options_of(hint))


def _is_path(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, os.PathLike)


def _argument(parameter: inspect.Parameter, hint: Any) -> Argument:
    default = parameter.default
    # where a prompt may be left out, embeddings take its place; that way is not open
    required = default is parameter.empty or parameter.name == "prompt"
    if hint is None and isinstance(default, _PLAIN):
        hint = type(default)
    if hint is list and default:
        hint = list[typing.Union[tuple(map(type, default))]]  # type: ignore[misc]  # noqa: UP007
    if parameter.name.endswith("sampling_rate"):  # of a sound; annotated as a tensor
        hint = int
    scalars, items, sequence = _kinds(hint)
    if str in scalars:
        items = set()  # a list of prompts would be several requests
    return Argument(
        name=parameter.name,
        scalars=frozenset(scalars),
        items=frozenset(items),
        sequence=sequence,
        required=required,
        default=None if required else default,
    )


def _kinds(hint: Any) -> tuple[set[type], set[type], type]:
    """The plain types in an annotation: alone, and inside of lists or tuples."""
    scalars: set[type] = set()
    items: set[type] = set()
    sequence: type = tuple
    for option in options_of(hint):
        if option in _PLAIN:
            scalars.add(option)
        elif typing.get_origin(option) is typing.Literal:
            scalars |= {type(word) for word in typing.get_args(option)} & set(_PLAIN)
        elif typing.get_origin(option) in (list, tuple):
            inner, nested, _ = _inside(option)
            items |= inner | nested
            sequence = list if typing.get_origin(option) is list and inner | nested else sequence
    return scalars, items, sequence


def _inside(option: Any) -> tuple[set[type], set[type], type]:
    return _kinds(typing.Union[tuple(a for a in typing.get_args(option) if a is not ...)])  # noqa: UP007


def options_of(hint: Any) -> tuple[Any, ...]:
    """Of an annotation: of a union its members."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: Any, kinds: frozenset[type]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return type(value) in kinds or (type(value) is int and float in kinds)


def _leaves(value: list[Any]) -> typing.Iterator[Any]:
    for item in value:
        if isinstance(item, list):
            yield from _leaves(item)
        else:
            yield item


def hints_of(call: Callable[..., Any]) -> dict[str, Any]:
    """What the annotations of a function, or of a class, stand for, but for those that name what is
    not installed."""
    written = getattr(call, "__annotations__", {})
    home = vars(sys.modules[call.__module__]) if isinstance(call, type) else {}
    names = getattr(inspect.unwrap(call), "__globals__", home)
    found: dict[str, Any] = {}
    for name, annotation in written.items():
        alone: Any = type("", (), {"__annotations__": {name: annotation}})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone, names)
    return found
