"""What a pipeline's denoising loop carries from one step to the next: read from its own source.

A step ends in the pipeline's `callback_on_step_end`, which is given tensors of the loop and may
give others back. A loop can be entered in the middle if these tensors, with the timestep schedulers
and the random generators, are all that one step leaves to the next. Whatever else a class keeps
from step to step (a second set of latents, a momentum, a list that grows) shows in its source as a
name that the loop's body writes, and reads before it writes it.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline

from roles.split.view import is_stateful

CALLBACK = "callback_on_step_end"
_NAMED = "callback_on_step_end_tensor_inputs"
_SHOWN = {"progress_bar"}  # what it counts is only shown
_READING = {"get", "items", "keys", "values", "copy", "index", "count"}
_LEAVE = (ast.Continue, ast.Break, ast.Return, ast.Raise)
_LOOPS = (ast.For, ast.While)


class NotPortable(RuntimeError):
    """A request of this pipeline cannot go on from the middle of its loop; says why."""


@dataclass(frozen=True)
class Loop:
    """One pipeline class's loop. `read`: the names of `__call__` that the body reads and does not
    make itself; `doubtful`: those of them that must be None in the middle of the loop, because
    nothing would put them back."""

    read: frozenset[str]
    doubtful: frozenset[str]


@functools.cache
def loop_of(kind: type[Any]) -> Loop:
    """The loop of a pipeline class. Raises NotPortable."""
    call = source_of(kind.__call__)
    found = list(_callbacks(call, ()))
    if len(found) != 1:
        raise NotPortable(f"its loop calls {CALLBACK} in {len(found)} places")
    loops = found[0]
    if len(loops) != 1:
        raise NotPortable(f"{CALLBACK} is called inside of {len(loops)} loops")
    flow = _Flow(kind, _locals(call), loops[0])
    flow.run(loops[0].body, flow.own)
    given_back = flow.returned & set(default_tensors(kind))
    if "latents" not in given_back:
        raise NotPortable("its callback does not take latents back")
    lost = (flow.exposed & flow.written) - given_back - _SHOWN
    if attributes := sorted(name for name in lost if "." in name):
        raise NotPortable(f"its loop carries {', '.join(attributes)} from step to step")
    read = {name for name in flow.exposed if "." not in name}
    return Loop(frozenset(read - _SHOWN - {CALLBACK}), frozenset(lost))


@functools.cache
def is_seen(kind: type) -> bool:
    """Whether the state of a pipeline class's loop can be seen at the end of every step."""
    try:
        return not loop_of(kind).doubtful
    except NotPortable:
        return False


class _Flow:
    """Follows the names of a loop's body through its statements, in their order.

    `exposed`: read where the body has perhaps not written them before; `written`: written, or
    changed in place; `returned`: taken back from the callback. Attributes of the pipeline are
    names too: `self.x`.
    """

    def __init__(self, kind: type, local: set[str], loop: ast.For | ast.While) -> None:
        self.exposed: set[str] = set()
        self.written: set[str] = set()
        self.returned: set[str] = set()
        self.own = _names(loop.target) if isinstance(loop, ast.For) else set()
        self._kind = kind
        self._local = local
        self._stored = _stored(loop.body)
        self._implied: dict[str, set[str]] = {}  # what is surely written if a condition holds

    def run(self, body: Iterable[ast.stmt], defined: set[str]) -> set[str] | None:
        """The names that are surely written after these statements; None if they never end."""
        for statement in body:
            after = self._statement(statement, defined)
            if after is None:
                return None
            defined = after
        return defined

    # ------------------------------------------------------------ statements

    def _statement(self, node: ast.stmt, defined: set[str]) -> set[str] | None:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=value) if _taken_back(value) == name:
                self.returned.add(name)
                return defined
            case ast.Assign():
                self._reads(node.value, defined)
                if self._constant(node.value):  # whoever runs through the loop writes the same
                    return defined | set().union(*map(_names, node.targets))
                return defined | self._write(node.targets, defined)
            case ast.AnnAssign(value=ast.expr() as value):
                self._reads(value, defined)
                return defined | self._write([node.target], defined)
            case ast.AugAssign():
                self._reads(node.value, defined)
                self._change(node.target, defined)
                return defined
            case ast.If():
                return self._branch(node, defined)
            case ast.For() | ast.While():
                return self._inner(node, defined)
            case ast.With():
                return self._with(node, defined)
            case ast.Try():
                for part in (node.body, *(h.body for h in node.handlers), node.finalbody):
                    self.run(part, defined)
                return defined
        self._reads(node, defined)
        return None if isinstance(node, _LEAVE) else defined

    def _branch(self, node: ast.If, defined: set[str]) -> set[str] | None:
        self._reads(node.test, defined)
        known = [self._implied.get(ast.dump(each), set()) for each in _conjuncts(node.test)]
        then = self.run(node.body, defined.union(*known))
        other = self.run(node.orelse, defined)
        if then is not None and self._constant(node.test):
            self._implied.setdefault(ast.dump(node.test), set()).update(then)
        if then is None or other is None:
            return other if then is None else then
        return then & other

    def _constant(self, node: ast.expr) -> bool:
        """Whether an expression is made of what no step changes."""
        if any(isinstance(each, ast.Call | ast.Lambda | ast.Await) for each in ast.walk(node)):
            return False
        return not (_read(node) & self._stored)

    def _inner(self, node: ast.For | ast.While, defined: set[str]) -> set[str]:
        if isinstance(node, ast.For):
            self._reads(node.iter, defined)
            self.run(node.body, defined | self._write([node.target], defined))
        else:
            self._reads(node.test, defined)
            self.run(node.body, defined)
        self.run(node.orelse, defined)
        return defined

    def _with(self, node: ast.With, defined: set[str]) -> set[str] | None:
        for item in node.items:
            self._reads(item.context_expr, defined)
            if item.optional_vars is not None:
                defined = defined | self._write([item.optional_vars], defined)
        return self.run(node.body, defined)

    def _write(self, targets: Iterable[ast.expr], defined: set[str]) -> set[str]:
        """Assigns to all of these: the names that are new values now."""
        new: set[str] = set()
        for target in targets:
            match target:
                case ast.Name(name):
                    new.add(name)
                case ast.Attribute(value=ast.Name("self"), attr=name):
                    new.add(f"self.{name}")
                case ast.Tuple(elts=parts) | ast.List(elts=parts):
                    new |= self._write(parts, defined)
                case ast.Starred(value=part):
                    new |= self._write([part], defined)
                case _:
                    self._change(target, defined)
        self.written |= new
        return new

    def _change(self, target: ast.expr, defined: set[str]) -> None:
        """What `target` is a part of is changed in place."""
        self._reads(target, defined)
        name = _root(target)
        own = name is not None and name.startswith("self.") and is_stateful(name)
        if name is not None and not own:
            self.written.add(name)
            if name not in defined:
                self.exposed.add(name)

    # ------------------------------------------------------------ expressions

    def _reads(self, node: ast.AST, defined: set[str]) -> None:
        match node:
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for part in node.generators:
                    self._reads(part.iter, defined)
                    defined = defined | _names(part.target)
            case ast.Lambda():
                defined = defined | {argument.arg for argument in node.args.args}
            case ast.Name(name):
                if name in self._local and name not in defined:
                    self.exposed.add(name)
                return
            case ast.Attribute(value=ast.Name("self"), attr=name):
                if f"self.{name}" not in defined:
                    self.exposed.add(f"self.{name}")
                return
            case ast.Call(func=ast.Attribute() as method):
                self._called(method, defined)
            case ast.NamedExpr(target=target):
                self._write([target], defined)
        for child in ast.iter_child_nodes(node):
            self._reads(child, defined)

    def _called(self, method: ast.Attribute, defined: set[str]) -> None:
        """A method may change the object that it is called on."""
        if isinstance(method.value, ast.Name) and method.value.id == "self":
            self.written |= _writes_of(self._kind, method.attr)
            self.exposed |= _writes_of(self._kind, method.attr)
            return
        name = _root(method.value)
        if name is None or _only_reads(method.attr):
            return
        if name.startswith("self."):
            if not _is_component(self._kind, name.removeprefix("self.")):
                self._change(method.value, defined)
        elif name in self._local:
            self._change(method.value, defined)


def _callbacks(
    node: ast.AST, loops: tuple[ast.For | ast.While, ...]
) -> Iterable[tuple[ast.For | ast.While, ...]]:
    """For each call of the callback, the loops around it, the outermost first."""
    if isinstance(node, _LOOPS):
        loops = (*loops, node)
    match node:
        case ast.Call(func=ast.Name(name)) if name == CALLBACK:
            yield loops
    for child in ast.iter_child_nodes(node):
        yield from _callbacks(child, loops)


def default_tensors(kind: type) -> tuple[str, ...]:
    """What the callback of a pipeline class is given when nobody says otherwise."""
    named = inspect.signature(kind.__call__).parameters.get(_NAMED)
    return tuple(named.default) if named is not None and named.default else ()


@functools.cache
def _writes_of(kind: type, method: str) -> frozenset[str]:
    """The attributes of the pipeline that one of its own methods sets."""
    function = inspect.getattr_static(kind, method, None)
    if hasattr(DiffusionPipeline, method) or not inspect.isfunction(function):
        return frozenset()
    found = set()
    for node in ast.walk(source_of(function)):
        match node:
            case ast.Attribute(value=ast.Name("self"), attr=name, ctx=ast.Store()):
                found.add(f"self.{name}")
    return frozenset(found)


def _is_component(kind: type, name: str) -> bool:
    """Schedulers and guiders are the request's own, and the snapshot has their state; everything
    else that computes keeps nothing of a request."""
    return name in inspect.signature(kind).parameters or name.endswith("processor")


def _only_reads(method: str) -> bool:
    """Whether a method leaves a tensor, a list or a dictionary as it is."""
    return method in _READING or (hasattr(torch.Tensor, method) and not method.endswith("_"))


def _taken_back(value: ast.expr) -> str | None:
    """The x of `callback_outputs.pop("x", x)`."""
    match value:
        case ast.Call(
            func=ast.Attribute(value=ast.Name("callback_outputs"), attr="pop"),
            args=[ast.Constant(str(name)), *_],
        ):
            return name
    return None


def _root(node: ast.expr) -> str | None:
    """The name of what an expression is a part of."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value=ast.Name("self"), attr=name):
            return f"self.{name}"
        case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Starred(value=inner):
            return _root(inner)
    return None


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    """The conditions that all hold when `test` does."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [test, *test.values]
    return [test]


def _names(target: ast.expr) -> set[str]:
    """The names that an assignment to `target` writes."""
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _read(node: ast.AST) -> set[str]:
    """All names in an expression, and attributes of the pipeline."""
    found = set()
    for each in ast.walk(node):
        match each:
            case ast.Name(name):
                found.add(name)
            case ast.Attribute(value=ast.Name("self"), attr=name):
                found.add(f"self.{name}")
    return found


def _stored(body: list[ast.stmt]) -> set[str]:
    """All names, and attributes of the pipeline, that statements write."""
    every = [node for statement in body for node in ast.walk(statement)]
    places = [n for n in every if isinstance(getattr(n, "ctx", None), ast.Store)]
    return {name for place in places if (name := _root(place)) is not None}  # type: ignore[arg-type]


def _locals(call: ast.FunctionDef) -> set[str]:
    arguments = call.args
    named = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    return (named | _stored(call.body)) - {"self"}


def source_of(function: object) -> ast.FunctionDef:
    """A function as a tree."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    found = tree.body[0]
    assert isinstance(found, ast.FunctionDef)
    return found
