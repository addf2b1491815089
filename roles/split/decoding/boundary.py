"""Where the denoiser ends and the decoder begins: the arguments of the VAE's `decode`.

They are the latents already unpacked and scaled, whatever the family, so the decoder has nothing
left to do but to decode them. The random generator's state goes with them.
"""

import ast
import functools
import inspect
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch

from roles.split import skeleton
from roles.split.decoding.sparing import Sparing
from roles.split.denoising.batching import tensors
from roles.split.face import StandIn
from roles.split.program import TransformerCall, Unsplittable
from roles.split.request.refusals import check_not_empty

# (component, positional arguments, keyword arguments, the generator's state)
Decode = tuple[str, list[Any], dict[str, Any], torch.Tensor]


_LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)


class Reached(BaseException):
    """Thrown through the pipeline when its denoiser's work is done; no `except Exception` of the
    pipeline's own catches it."""


class Boundary:
    """Takes what the pipeline gives to its decoders.

    Nearly every pipeline decodes once, and ends there. Those that decode in chunks, with two
    decoders, or each section of a film as soon as it is denoised, are led on past the first one
    with results that have shapes but no data, until they want data: `several`.
    """

    def __init__(self, pipeline: str, generator: torch.Generator, several: bool) -> None:
        self.decodes: list[Decode] = []
        self._pipeline = pipeline
        self._generator = generator
        self._several = several
        self._hollow: dict[str, Any] = {}

    def take(self, name: str, face: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The `decode` of a decoder's stand-in. Raises Unsplittable for what was computed with a
        stand-in, and is nothing but a shape; and BadInput for latents of no picture."""
        if not self._hollow and any(value.is_meta for value in _tensors([*args, *kwargs.values()])):
            reason = f"it computes with {name} between its denoiser and decoding"
            raise Unsplittable(self._pipeline, reason)
        check_not_empty(args, kwargs)
        self.decodes.append((name, _own(args), _own(kwargs), self._generator.get_state()))
        if not self._several:
            raise Reached
        if name not in self._hollow:
            self._hollow[name] = skeleton.hollow_copy(face.component).to("meta")
        return _shape(self._hollow[name], args, kwargs)

    def check_forward(self, call: TransformerCall) -> None:
        """Called at each forward: it must not need what was decoded before."""
        if not self.decodes:
            return
        given = tensors([*call.args, *call.kwargs.values()])
        if any(tensor.is_meta for tensor in given):
            raise Unsplittable(self._pipeline, "its denoiser goes on from what was decoded")


class Given:
    """Hands out what crossed the boundary, to the decoder's own pipeline."""

    def __init__(
        self, pipeline: str, decodes: list[Decode], generator: torch.Generator, sparing: Sparing
    ) -> None:
        self._pipeline = pipeline
        self._waiting = list(decodes)
        self._given = len(decodes)
        self._generator = generator
        self._sparing = sparing

    @property
    def begun(self) -> bool:
        """Whether the pipeline has come to where it decodes."""
        return self._given > len(self._waiting)

    def decode(self, name: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The `decode` of a decoder's face: the real one, on what the denoiser made."""
        if not self._waiting:
            raise self.ended_before()
        if self._waiting[0][0] != name:
            raise RuntimeError(f"the pipeline decodes with {name} where the denoiser's did not")
        _, given, named, state = self._waiting.pop(0)
        positional = [_generator(args, i) or value for i, value in enumerate(given)]
        generators = {k: v for k, v in kwargs.items() if isinstance(v, torch.Generator)}

        def decode() -> Any:
            self._generator.set_state(state)
            return module.decode(*positional, **{**named, **generators})

        return self._sparing.decode(name, module, decode, (positional, named))

    def ended_before(self) -> Unsplittable:
        """For what the denoiser's pipeline did not come to."""
        reason = "it works on what it has decoded before it decodes the rest"
        return Unsplittable(self._pipeline, reason)

    def finish(self) -> None:
        if self._waiting:
            raise RuntimeError(f"{len(self._waiting)} of the denoiser's results were not decoded")


def decodes_several_times(kind: Any, decoders: Collection[str]) -> bool:
    """Whether a pipeline class may call `decode` of its decoders more than once for one sample."""
    named = inspect.signature(kind.__call__).parameters
    if named.keys() & {"decode_chunk_size", "batch_size"} or len(decoders) > 1:
        return True
    return not _decoded_again(kind).isdisjoint(decoders)


@functools.cache
def _decoded_again(kind: type[Any]) -> frozenset[str]:
    """The components whose `decode` the class's own source calls inside of a loop, or its
    `__call__` in more places than one."""
    own = [_source(base) for base in kind.__mro__ if "__call__" in vars(base)]
    nodes = [node for tree in own for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    methods = {each.name: set(_decoded(each, {})) for each in functions}
    loops = (node for node in nodes if isinstance(node, _LOOPS))
    looped = [name for loop in loops for name in _decoded(loop, methods)]
    placed = Counter(_decoded(_source(kind.__call__), methods))
    return frozenset([*looped, *(name for name, places in placed.items() if places > 1)])


def _source(of: Any) -> ast.AST:
    """Empty where there is none to read."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(of)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _decoded(tree: ast.AST, methods: Mapping[str, Collection[str]]) -> Iterator[str]:
    """The `x` of each `self.x.decode(…)`, also of those in `methods` that are called."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(ast.Attribute(ast.Name("self"), name), "decode")):
                yield name
            case ast.Call(func=ast.Attribute(ast.Name("self"), method)):
                yield from methods.get(method, ())


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _own(values: Any) -> Any:
    """Arguments without generators: the decoder has its own."""
    if isinstance(values, dict):
        return {k: v for k, v in values.items() if not isinstance(v, torch.Generator)}
    return [None if isinstance(v, torch.Generator) else v for v in values]


def _generator(args: tuple[Any, ...], index: int) -> torch.Generator | None:
    value = args[index] if index < len(args) else None
    return value if isinstance(value, torch.Generator) else None


def _shape(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a decoder would return, on the meta device."""
    try:
        return module.decode(*_on_meta(args), **_on_meta(kwargs))
    except Exception as error:  # a decoder that cannot run without data: this was the last
        raise Reached from error


def _on_meta(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _on_meta(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map(_on_meta, values))
    return values.to("meta") if isinstance(values, torch.Tensor) else values
