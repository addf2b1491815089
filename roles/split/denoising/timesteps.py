"""Which models take a timestep for each sample, although their pipelines give one for all."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

_NAMES = ("timestep", "timesteps")


@functools.cache
def spreads(kind: type) -> bool:
    """Whether a class of models makes whatever timestep it gets one for each sample by itself:
    one of its methods expands it to, or multiplies it by ones of, the number of samples. So
    requests that are at different steps may share its forwards."""
    methods = [each for each in vars(kind).values() if inspect.isfunction(each)]
    return any(_expands(each) for each in methods if _takes(each))


def _takes(method: Callable[..., Any]) -> bool:
    return any(name in inspect.signature(method).parameters for name in _NAMES)


def _expands(method: Callable[..., Any]) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, SyntaxError):  # its source is not there
        return False
    return any(map(_is_expanded, ast.walk(tree)))


def _is_expanded(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(name), attr="expand"), args=[_]):
            return name in _NAMES
        case ast.BinOp(left=ast.Name(name), op=ast.Mult(), right=ast.Call(func=made)):
            return name in _NAMES and ast.unparse(made) == "torch.ones"
    return False
