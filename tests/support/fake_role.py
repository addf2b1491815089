"""A process that behaves like `triptych serve` towards its supervisor, and computes nothing.

    python fake_role.py BEHAVIOUR [FILE]

serves: prints its ready line and waits for SIGTERM, then exits with 0.
stubborn: the same, but ignores SIGTERM.
silent: never says that it is ready.
fails: writes an error of one line, exits with 1.
crashes: writes a traceback, exits with 1.
chatty: writes lines without end (and one without a newline of 200 kB), then serves.
dies: comes up, and exits with 3 as long as FILE is there (it is removed): once, then serves.
leaves: comes up, and exits with 0.
forces: comes up, and exits with 4, as one that had to kill its ranks.
family: starts a child that only sleeps, prints its pid to standard error, then serves.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def main(behaviour: str, file: str | None = None) -> int:
    if behaviour == "fails":
        print("triptych: the model is a teapot", file=sys.stderr)
        return 1
    if behaviour == "crashes":
        raise RuntimeError("no idea why")
    if behaviour == "chatty":
        print("x" * 200_000, "\nhello", file=sys.stderr)
    if behaviour == "family":
        child = subprocess.Popen(["sleep", "600"])
        print(f"child {child.pid}", file=sys.stderr, flush=True)
    wanted = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    if behaviour != "silent":
        print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    if behaviour == "forces":
        return 4
    if behaviour == "dies" and file and Path(file).exists():
        Path(file).unlink()
        return 3
    if behaviour == "leaves":
        return 0
    while True:
        signal.sigwait(wanted)
        if behaviour != "stubborn":
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
