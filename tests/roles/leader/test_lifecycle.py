"""The states of an instance, and the end of a process that hangs."""

import logging
import subprocess
import sys

import pytest

from roles.leader.lifecycle import Lifecycle
from transfer.ends import PoolEnd, RankEnd


def test_each_change_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    life = Lifecycle("denoiser-0")
    assert life.move("ready", "the model is loaded")
    assert not life.move("ready", "again")
    assert life.move("divergent", "rank 1 cannot go back")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "denoiser-0 is ready: the model is loaded (it was starting)"),
        ("ERROR", "denoiser-0 is divergent: rank 1 cannot go back (it was ready)"),
    ]


@pytest.mark.parametrize("alive", ["starting", "warming", "ready", "sleeping", "divergent"])
def test_while_it_lives_it_may_go_to_and_fro(alive: str) -> None:
    life = Lifecycle("a")
    for other in ("warming", "ready", "sleeping", "divergent", "starting"):
        life.move(alive, "")  # type: ignore[arg-type]
        assert life.move(other, "") == (other != alive)  # type: ignore[arg-type]


def test_what_has_begun_to_end_never_comes_back() -> None:
    life = Lifecycle("a")
    for state, refused in (
        ("draining", ["ready", "starting", "sleeping"]),
        ("closing", ["ready", "draining"]),
        ("failed", ["ready", "closing", "closed"]),
    ):
        assert life.move(state, "")  # type: ignore[arg-type]
        assert not any(life.move(other, "") for other in refused)  # type: ignore[arg-type]
        assert life.state == state


def test_an_end_that_was_meant_to_be_sudden_was_not_forced() -> None:
    killed = [RankEnd(0, 7, "SIGKILL", "died of SIGKILL")]
    assert PoolEnd(killed, asked=True, seconds=0.0).killed
    assert not PoolEnd(killed, asked=False, seconds=0.0).killed
    stuck = PoolEnd([RankEnd(0, 7, "nothing")], asked=False, seconds=0.0)
    assert (stuck.state, len(stuck.forced), stuck.killed) == ("failed", 1, False)


@pytest.mark.parametrize(("start", "code"), [("deadline.start()", 1), ("deadline.cancel()", 0)])
def test_v5_a_process_that_hangs_is_ended_by_its_deadline(start: str, code: int) -> None:
    script = (
        "import time; from roles.leader.lifecycle import Deadline; deadline = Deadline(0.2); "
        f"{start}; {start}; time.sleep(600 if {code} else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert ended.returncode == code
    assert ("did not close within 0.2 s" in ended.stderr) == bool(code)
