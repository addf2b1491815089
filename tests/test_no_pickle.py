"""No pickle can come back: not in our code, not in what crosses a wire, not in what is loaded.

A pickle is a program. Whoever can hand one to a process owns it, so nothing that is read from a
socket, from shared memory or from a model's folder may be one; nor may text become code.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from orchestrator.http.request.schema import ImageRequest
from roles.calls import Call, Reply
from transfer.manifest import Manifest
from transfer.messages import FromInstance, FromMedia, FromOrchestrator, ToMedia

ROOT = Path(__file__).parents[1]
PACKAGES = ("transfer", "orchestrator", "roles", "launch")

# Modules that load pickles or code, or that send them between processes.
MODULES = re.compile(
    r"(c?pickle|_pickle|marshal|shelve|dill|cloudpickle|joblib|jsonpickle|hickle|multiprocessing"
    r"|torch\.multiprocessing|torch\.package|concurrent\.futures\.process|xmlrpc|code|codeop)(\..*)?"
)
# Calls that do, by the end of their dotted name.
CALLS = re.compile(
    r"(^|\.)(eval|exec|compile|__import__)$"
    r"|^(torch|th)\.(load|save)$|\.(torch|np|numpy)\.load$|^(np|numpy)\.(load|save|savez|fromfile)$"
    r"|^torch\.(hub|jit)\.\w+$|^torch\.utils\.cpp_extension\.\w+$"
    r"|^yaml\.(load|load_all|full_load\w*|unsafe_load\w*)$"
    r"|\.(send|recv)_pyobj$|\.\w*_object(_list)?$|^logging\.config\.listen$"
    r"|\.(Process|Unp|P)ickl\w+$|ProcessPoolExecutor$|\.run_in_executor_process$"
)
METHODS = ("eval", "compile")  # of a module, of a pattern: something else than the built-ins
WORDS = {"allow_pickle": True, "weights_only": False, "trust_remote_code": True, "shell": True}

# What is allowed, and why.
EXCEPTIONS = {
    "launch/demo/train.py": {"torch.load", "torch.save"},  # its own files; weights_only is default
}
# Modules by a name that is no constant: from a table in the file; from the leader's command line.
BY_NAME = {"transfer/known.py", "roles/rank/worker.py"}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def found(path: str, text: str) -> Iterator[str]:
    """Everything in a source that may not be there, with its line."""
    for node in ast.walk(ast.parse(text)):
        for name in _names(node, path):
            if name not in EXCEPTIONS.get(path, ()):
                yield f"{path}:{node.lineno}: {name}"  # type: ignore[attr-defined]


def _names(node: ast.AST, path: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if MODULES.fullmatch(alias.name))
    elif isinstance(node, ast.ImportFrom) and not node.level:
        given = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in given if MODULES.fullmatch(name) or CALLS.search(name))
    elif isinstance(node, ast.Call):
        yield from _of_call(node, path)


def _of_call(node: ast.Call, path: str) -> Iterator[str]:
    name = ast.unparse(node.func)
    method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
    if CALLS.search(name) and not (method and not name.startswith("builtins.")):
        yield name
    constant = bool(node.args) and isinstance(node.args[0], ast.Constant)
    if name.endswith("import_module") and not constant and path not in BY_NAME:
        yield f"{name} of a name that is no constant"
    for word in node.keywords:
        value = word.value.value if isinstance(word.value, ast.Constant) else None
        if word.arg in WORDS and value is WORDS[word.arg]:
            yield f"{word.arg}={value}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_our_code_has_none(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert list(found(name, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "def f():\n    from pickle import loads",
        "import multiprocessing.shared_memory",
        "from torch import multiprocessing",
        "from torch.multiprocessing import Queue",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "torch.save(state, path)",
        "from torch import load",
        "np.load(path)",
        "numpy.load(path)",
        "f(allow_pickle=True)",
        "f(weights_only=False)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
        "builtins.eval(text)",
        "exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "importlib.import_module(name)",
        "importlib.import_module(f'x.{name}')",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "from yaml import load",
        "socket.recv_pyobj()",
        "socket.send_pyobj(x)",
        "dist.broadcast_object_list(x)",
        "dist.all_gather_object(x, y)",
        "from concurrent.futures import ProcessPoolExecutor",
        "torch.hub.load(repository, name)",
        "from importlib import import_module\nimport_module(name)",
    ],
)
def test_the_search_finds_it(text: str) -> None:
    assert list(found("roles/new.py", text))


@pytest.mark.parametrize(
    "text",
    [
        "import json",
        "model.to(device).eval()",
        "re.compile(text)",
        "torch.compile(module)",
        "yaml.safe_load(text)",
        "importlib.import_module('mooncake.engine')",
        "from safetensors.torch import load_file\nload_file(path)",
        "task.load()",
    ],
)
def test_the_search_finds_nothing_else(text: str) -> None:
    assert not list(found("roles/new.py", text))


@pytest.mark.parametrize(
    "wire",
    [FromInstance, FromOrchestrator, ToMedia, FromMedia, Call, Reply, Manifest, ImageRequest],
    ids=[
        "from instance",
        "to instance",
        "to media",
        "from media",
        "call",
        "reply",
        "manifest",
        "http",
    ],
)
def test_what_crosses_a_wire_is_spelled_out(wire: object) -> None:
    """A type that takes anything, or that a hook of ours builds, is where a class could be chosen
    by what arrived."""
    open_types = (msgspec.inspect.CustomType, msgspec.inspect.ExtType, msgspec.inspect.RawType)
    kinds = list(_kinds(msgspec.inspect.type_info(wire), set()))
    assert not [kind for kind in kinds if isinstance(kind, open_types)]
    structs = [kind for kind in kinds if isinstance(kind, msgspec.inspect.StructType)]
    assert structs
    assert all(struct.forbid_unknown_fields for struct in structs)


def _kinds(kind: object, seen: set[type]) -> Iterator[object]:
    """The types that a type is made of."""
    yield kind
    if isinstance(kind, msgspec.inspect.StructType):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        for field in kind.fields:
            yield from _kinds(field.type, seen)
    elif isinstance(kind, msgspec.inspect.Type):
        for part in (getattr(kind, name) for name in kind.__struct_fields__):
            for each in part if isinstance(part, tuple) else (part,):
                if isinstance(each, msgspec.inspect.Type):
                    yield from _kinds(each, seen)


def test_a_model_loads_without_a_pickle() -> None:
    """All of a pipeline through every library that reads a part of it."""
    script = """
import sys
from pathlib import Path
from roles.split.loading import load
import diffusers, transformers
found = []
sys.addaudithook(lambda event, told: event == "pickle.find_class" and found.append(told))
load("launch/demo/model", ("monolithic",), "auto", "cpu")
sys.exit(str(found) if found else 0)
"""
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loading_a_pickle_would_have_been_seen() -> None:
    script = """
import sys, pickle, collections
sys.addaudithook(lambda event, told: event == "pickle.find_class" and sys.exit(3))
pickle.loads(pickle.dumps(collections.OrderedDict()))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 3
