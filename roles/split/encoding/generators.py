"""Which models of a pipeline write text, or tokens of another kind: found in its source."""

import ast
import functools
import inspect
import sys
from collections.abc import Mapping
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


def _calls_generate(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "generate"
        for node in ast.walk(tree)
    )


def _can_generate(module: Any) -> bool:
    can = getattr(module, "can_generate", None)
    return can is not None and bool(can())
