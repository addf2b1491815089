"""Which components the blocks of a modular pipeline compute with: read from their own source.

Blocks declare every component that they look at. A VAE is declared by the preparation of latents
that only asks for its scale, and needs no weights for that. Where a video is made in segments, the
loop decodes each of them to go on from it, and needs them all.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

# how blocks call the pipeline that holds their components
_HOLDERS = {"components", "pipeline", "self"}
# questions that a component without weights answers as well
_ASKING = {"getattr", "hasattr", "isinstance", "type", "callable"}
_HARMLESS = {"to", "get", "items", "keys"}
_SETTINGS = {"config", "dtype", "device"}


def leaves(block: Any) -> Iterator[Any]:
    """The blocks that do something themselves, in their order; a loop comes before what it
    repeats."""
    parts = list(block.sub_blocks.values())
    if not parts or is_loop(block):
        yield block
    for part in parts:
        yield from leaves(part)


def is_loop(block: Any) -> bool:
    """Whether a block repeats those inside of it."""
    return hasattr(block, "loop_step")


def declared(block: Any) -> set[str]:
    """The components that a block, or one inside of it, looks at."""
    return {spec.name for spec in block.expected_components}


def computed(block: Any) -> set[str]:
    """Those of them that are called, or handed on to somebody who may call them."""
    return {name for leaf in leaves(block) for name in declared(leaf) & _computed_by(type(leaf))}  # type: ignore[arg-type]


@functools.cache
def _computed_by(kind: Any) -> frozenset[str]:
    """The attributes of the pipeline that a class of blocks computes with. What shows no source is
    believed to compute with everything that it declares."""
    own = [base for base in kind.__mro__ if "__call__" in vars(base) or base is kind]
    try:
        trees = [ast.parse(textwrap.dedent(inspect.getsource(base))) for base in own]
    except (OSError, SyntaxError):
        return frozenset(declared(kind()))
    return frozenset(name for tree in trees for name in _uses(tree))


def _uses(tree: ast.AST) -> Iterator[str]:
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        name = _component(node, aliases)
        if name is not None and _computes(node, parents):
            yield name


def _component(node: ast.AST, aliases: dict[str, str]) -> str | None:
    """The component that an expression is: `components.vae`, or a variable that stands for it."""
    match node:
        case ast.Attribute(value=ast.Name(holder), attr=name) if holder in _HOLDERS:
            return name
        case ast.Name(name, ctx=ast.Load()):
            return aliases.get(name)
    return None


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Variables that are assigned a component: `vae = components.vae`."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(variable)], value=value):
                if name := _component(value, {}):
                    found[variable] = name
    return found


def _computes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether what is done with a component needs its weights."""
    parent = parents.get(node)
    match parent:
        case ast.Attribute():
            return _called(parent, parents)
        case ast.Call(func=ast.Name(function)) if function in _ASKING:
            return False
        case ast.Assign(targets=targets):
            return not all(isinstance(target, ast.Name) for target in targets)
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp() | ast.If():
            return False
    return True


def _called(node: ast.Attribute, parents: dict[ast.AST, ast.AST]) -> bool:
    """`components.vae.config.x` only asks; `components.vae.encode(x)` computes."""
    if node.attr in _SETTINGS:
        return False
    parent = parents.get(node)
    if isinstance(parent, ast.Attribute):
        return _called(parent, parents)
    called = isinstance(parent, ast.Call) and parent.func is node
    return called and node.attr not in _HARMLESS
