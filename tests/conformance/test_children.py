"""A case that crashes, hangs or writes nothing is its own verdict: the others are judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, signal, sys, time
from tests.conformance.case import Case
from tests.conformance.children import judged
from tests.conformance.verdict import Judged, Split, Verdict


def judge(case):
    print("about to", case.workflow, flush=True)
    match case.workflow:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            if os.fork() == 0:
                time.sleep(600)
            time.sleep(600)
    return Judged(Verdict(case.pipeline, case.workflow, "", Split("yes")))


cases = [Case("P", name, dict, dict) for name in ("fine", "crash", "exit", "hang", "good")]
told = {c.workflow: (j.verdict.split.holds, j.verdict.split.why, j.traces)
        for c, j in judged(cases, judge, 2, float(sys.argv[1]))}
try:
    os.waitpid(-1, os.WNOHANG)
    left = True
except ChildProcessError:
    left = False
print(json.dumps([told, left, "torch" in sys.modules]))
"""


def test_each_case_has_its_own_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "6"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    told, left, torch = json.loads(done.stdout)
    assert told["fine"][0] == told["good"][0] == "yes"
    assert told["crash"] == ["no", "its process died: SIGSEGV", "about to crash\n"]
    assert told["exit"][:2] == ["no", "its process died: exit code 3"]
    assert told["hang"] == ["no", "it takes too long", "about to hang\n"]
    assert not left
    assert not torch
