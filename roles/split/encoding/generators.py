"""Which models of a pipeline write text, or tokens of another kind: found in its source."""

import ast
import functools
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from diffusers import DiffusionPipeline


def generators(kind: type, encoders: Mapping[str, Any]) -> list[str]:
    """The names of the encoders that can generate, for a pipeline class that asks for it."""
    if not asks(kind):
        return []
    return [name for name, module in encoders.items() if _can_generate(module)]


@functools.cache
def asks(kind: type) -> bool:
    """Whether a `generate` is called somewhere in the files that a pipeline class is made of."""
    own = [each for each in kind.__mro__ if issubclass(each, DiffusionPipeline)]
    files = {each.__module__ for each in own if each is not DiffusionPipeline}
    return any(_calls_generate(ast.parse(inspect.getsource(sys.modules[name]))) for name in files)


def generators_of_blocks(blocks: Iterable[Any], encoders: Mapping[str, Any]) -> list[str]:
    """The same for blocks of a modular pipeline, each of which declares its components."""
    asking = [block for block in blocks if _block_asks(type(block))]  # type: ignore[arg-type]
    declared = {spec.name for block in asking for spec in block.expected_components}
    able = [name for name, module in encoders.items() if _can_generate(module)]
    return [name for name in able if name in declared]


@functools.cache
def _block_asks(kind: type) -> bool:
    """Whether a `generate` is called in a class of blocks, or in a function of its file that it
    uses. What shows no source asks for none, as far as anybody can tell."""
    return any(_reaches_generate(base) for base in kind.__mro__ if base is not object)


def _reaches_generate(kind: type) -> bool:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    except (OSError, TypeError):
        return False
    named = ast.ClassDef | ast.FunctionDef
    parts = {node.name: node for node in tree.body if isinstance(node, named)}
    waiting, seen = [kind.__name__], set[str]()
    while waiting:
        name = waiting.pop()
        if name in parts and name not in seen:
            seen.add(name)
            waiting += [node.id for node in ast.walk(parts[name]) if isinstance(node, ast.Name)]
    return any(_calls_generate(parts[name]) for name in seen)


def _calls_generate(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "generate"
        for node in ast.walk(tree)
    )


def _can_generate(module: Any) -> bool:
    can = getattr(module, "can_generate", None)
    return can is not None and bool(can())
