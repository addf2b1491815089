"""Which results of a pipeline's encoding methods only feed its other encoders.

LTX-2 encodes a text into all hidden states of its language model, hundreds of MiB, and gives them
to its connectors, whose result is what the transformer reads, and a hundredth of that. Both are
kept (`roles.split.encoding.recording`), but nobody beyond the encoder role looks into the first:
there, its shape is enough.

That is read from the source of the class's `__call__`. A name only feeds if nothing happens to it
but that encoders are called with it, that its shape, dtype or device is read, that it is compared
with None, and that names which only feed are made of it. Everything else crosses whole.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from roles.split.encoding.replay import hollow

ALL = -1  # the place of a result that is no tuple
_LOOKED_AT = {"shape", "dtype", "device", "ndim", "size", "dim"}
_HARMLESS = {"isinstance", "len"}

Feeding = Mapping[str, Collection[int]]  # by method: the places in its result, or ALL
Targets = list[str] | None  # the names that a use flows into; None: who knows where


@functools.cache
def feeding(kind: Any, encoders: frozenset[str]) -> Feeding:
    """`kind`: the pipeline's class; `encoders`: its components that encode."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__call__)))
    except (OSError, TypeError, SyntaxError):
        return {}
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: dict[str, Collection[int]] = {}
    for method, targets in _results(tree, parents).items():
        harmless = {method, "check_inputs"}  # before it, its arguments are the request's own
        uses = list(_uses(tree, parents, encoders, harmless))
        only = _only_feeding(uses)
        places = [ALL] if len(targets) == 1 else range(len(targets))
        if fed := {place for place, name in zip(places, targets, strict=True) if name in only}:
            found[method] = fed
    return found


def without_fed(value: Any, places: Collection[int]) -> Any:
    """What crosses of a result: shapes only at these places."""
    if ALL in places:
        return hollow(value)
    if type(value) is not tuple:
        return value
    return tuple(hollow(each) if n in places else each for n, each in enumerate(value))


def _results(tree: ast.AST, parents: Mapping[int, ast.AST]) -> dict[str, list[str]]:
    """The `[a, b]` of each `a, b = self.method(…)` that is the only call of it."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (method := _own(node.func)) is None:
            continue
        names = _targets(parents[id(node)], node)
        if names and method not in seen:
            found[method] = names
        else:
            found.pop(method, None)
        seen.add(method)
    return found


def _targets(statement: ast.AST, value: ast.AST) -> Targets:
    """The names that a statement gives this value to, if they are names."""
    if not isinstance(statement, ast.Assign) or statement.value is not value:
        return None
    (target, *others) = statement.targets
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return names if len(names) == len(parts) and not others else None


def _own(func: ast.AST) -> str | None:
    """The `x` of `self.x`."""
    match func:
        case ast.Attribute(ast.Name("self"), name):
            return name
    return None


def _uses(
    tree: ast.AST,
    parents: Mapping[int, ast.AST],
    encoders: Collection[str],
    harmless: Collection[str],
) -> Iterator[tuple[str, Targets]]:
    """Each use of a name, and what it flows into."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, _flow(node, parents, encoders, harmless)


def _flow(
    node: ast.AST,
    parents: Mapping[int, ast.AST],
    encoders: Collection[str],
    harmless: Collection[str],
) -> Targets:
    while not isinstance(node, ast.stmt):
        parent = parents[id(node)]
        match parent:
            case ast.Attribute(attr=attr) if attr in _LOOKED_AT:
                return []
            case ast.Compare(ops=ops) if all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
                return []
            case ast.Call(func=func) if node is not func and _encodes(func, encoders, harmless):
                return []
            case ast.Assign():
                return _targets(parent, node)
        node = parent
    return None


def _encodes(func: ast.AST, encoders: Collection[str], harmless: Collection[str]) -> bool:
    """Whether a call takes what it is given no further than an encoder."""
    match func:
        case ast.Name(name):
            return name in _HARMLESS
        case ast.Attribute(ast.Attribute(ast.Name("self"), component)):
            return component in encoders
    own = _own(func)
    return own in encoders or own in harmless


def _only_feeding(uses: Collection[tuple[str, Targets]]) -> set[str]:
    """The names all of whose uses end in encoders."""
    only = {name for name, _ in uses} | {name for _, into in uses for name in into or ()}
    while spoilt := {n for n, into in uses if n in only and (into is None or set(into) - only)}:
        only -= spoilt
    return only
