"""How Triptych starts Triptych: the same interpreter, the same code, whatever lies around."""

import os
import sys
from pathlib import Path


def command(*words: str) -> tuple[str, ...]:
    """The command line of `triptych WORDS…`."""
    # -P: a file in the working directory that is called like a module must not be taken for it
    return (sys.executable, "-P", "-m", "launch.cli", *words)


def environment() -> dict[str, str]:
    """This process's own, with our packages in sight wherever they were imported from."""
    root = str(Path(__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
