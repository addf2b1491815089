"""`--compile`: the repeated blocks of the transformer, through torch.compile."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx.experimental._config

from roles.split.program import ModelError

# All blocks of a model are one piece of code to torch, which compiles it anew for each kind of
# block, and for a batch of one besides others; beyond this number it would go on uncompiled.
KINDS = 64
BACKEND = "inductor"


def compile_blocks(parts: Mapping[str, Any], device: torch.device) -> None:
    """Marks the blocks; they are compiled when they first run. Raises ModelError."""
    if (missing := missing_tool(device)) is not None:
        raise ModelError(f"--compile needs {missing}")
    torch._dynamo.config.recompile_limit = KINDS
    # sizes that happen to be equal in the warm-up, as those of a square, need not be later
    torch.fx.experimental._config.use_duck_shape = False
    able = {name: blocks for name, part in parts.items() if (blocks := repeated(part))}
    if not able:
        kinds = " or ".join(type(part).__name__ for part in parts.values())
        raise ModelError(f"{kinds} has no repeated blocks to compile; leave out --compile")
    for name, blocks in able.items():
        parts[name]._repeated_blocks = blocks
        # dynamic: the sizes of pictures, texts and shared forwards are not compiled into the code
        parts[name].compile_repeated_blocks(dynamic=True, backend=BACKEND)


def repeated(part: Any) -> list[str]:
    """The classes of the blocks. Where diffusers names none, those that it never splits over
    devices, as far as there are several of a class."""
    if named := getattr(part, "_repeated_blocks", None):
        return list(named)
    kinds = Counter(type(module).__name__ for module in part.modules())
    return [kind for kind in set(getattr(part, "_no_split_modules", None) or ()) if kinds[kind] > 1]


def missing_tool(device: torch.device) -> str | None:
    """What torch.compile needs and this machine does not have."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX") or "g++"
        if shutil.which(compiler) is None:
            return f"a C++ compiler, and there is no {compiler} (apt-get install g++, or set CXX)"
        return None
    if importlib.util.find_spec("triton") is None:
        return "triton, which is not installed (pip install triton)"
    names = [name for name in (os.environ.get("CC"), "gcc", "clang") if name]
    if not any(map(shutil.which, names)):
        return f"a C compiler, and there is no {names[0]} (apt-get install gcc, or set CC)"
    return None
