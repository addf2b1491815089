"""Ranks of tests, joined for real: processes that have imported everything before they begin.

    python -m tests.support.ranks CASES [MODULE…]

CASES is a JSON list of `[module:function, parallel, ranks, arguments]`. For each case so
many ranks are forked, which costs milliseconds where an import of torch costs seconds; they join,
and each calls `function(world, *arguments)`. What the functions gave is printed, one JSON line for
each case: a list with an entry for each rank, its result or {"error": …}. A rank that is killed
says nothing: its entry is null.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from roles.meeting import Meeting

ROOT = Path(__file__).parents[2]
LONG_S = 800  # no case takes so long; then it is hung
Case = tuple[str, str, int, list[Any]]


def run_cases(cases: Sequence[Case], imports: Sequence[str] = ()) -> list[list[Any]]:
    """For tests: what the ranks of each case gave, all from one process that imported once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.ranks", json.dumps(cases), *imports],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=LONG_S,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(cases: Sequence[Case], imports: Sequence[str]) -> None:
    import roles.rank.world  # noqa: F401  # before the ranks are forked, who then have it

    for module in imports:
        importlib.import_module(module)
    for name, parallel, ranks, arguments in cases:
        module, _, function = name.partition(":")
        work = getattr(importlib.import_module(module), function)
        print(json.dumps(fork_ranks(work, parallel, ranks, arguments)), flush=True)


def fork_ranks(
    work: Callable[..., Any], parallel: str, ranks: int, arguments: list[Any]
) -> list[Any]:
    meeting = Meeting()
    children = [
        _forked(work, parallel, ranks, rank, meeting.fd, arguments) for rank in range(ranks)
    ]
    meeting.close()
    told = []
    for pid, pipe in children:
        with os.fdopen(pipe) as reading:
            said = reading.read()
        os.waitpid(pid, 0)
        told.append(json.loads(said) if said else None)
    return told


def _forked(
    work: Callable[..., Any], parallel: str, ranks: int, rank: int, fd: int, arguments: list[Any]
) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    signal.alarm(LONG_S)
    try:
        told = _rank(work, parallel, ranks, rank, fd, arguments)
    except BaseException as error:
        told = {"error": type(error).__name__, "message": str(error)}
        traceback.print_exc()
    with os.fdopen(writing, "w") as pipe:
        json.dump(told, pipe)
    os._exit(0)


def _rank(
    work: Callable[..., Any], parallel: str, ranks: int, rank: int, fd: int, arguments: list[Any]
) -> Any:
    import torch

    from roles.parallel import divide
    from roles.rank.world import World

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    world = World.join(rank, divide(parallel, ranks), fd, "cpu")
    result = work(world, *arguments)
    world.leave()
    return result


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
