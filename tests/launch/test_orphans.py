import os
import signal
import subprocess
import sys

import psutil

CHILD = "import sys; from roles.lifeline import tie_to; tie_to(int(sys.argv[1])); "
WAITS = CHILD + "print('here', flush=True); sys.stdin.read()"
# A parent that starts such a child and is killed before it could tell it anything.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    command = [sys.executable, "-c", PARENT, WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        child.wait(10)


def test_a_rank_is_tied_to_its_leader_before_it_imports_what_takes_seconds() -> None:
    code = """
import sys
from roles.rank import __main__ as rank
try:
    rank.main(sys.argv[1:])
finally:
    print("torch" in sys.modules)
"""
    flags = ["--fd=0", "--parent=1", "--rank=0", "--threads=1", "--slice=1", "--device=cpu"]
    command = [sys.executable, "-c", code, *flags]  # its parent is us, not the process 1
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"False\n")


def test_a_child_whose_parent_died_before_ends_at_once() -> None:
    command = [sys.executable, "-c", WAITS, "1"]  # its parent is us, not the process 1
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
