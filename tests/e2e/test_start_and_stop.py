"""Nothing is left behind, and what cannot start says why."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launch import Cluster, ClusterError
from tests.support.local_cluster import (
    ENDLESS,
    REQUEST,
    all_pids,
    eventually,
    in_background,
    instance_of,
    is_gone,
    segments,
    small_cluster,
    whole_cluster,
)


def everything_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


def test_sigterm_lets_requests_finish_and_leaves_nothing(model: Path) -> None:
    before = segments()
    with small_cluster(model) as cluster:
        pids = all_pids(cluster)
        assert len(pids) == 8  # supervisor, orchestrator, three leaders, three ranks
        many = {**REQUEST, "steps": 200}
        request = in_background(lambda: cluster.generate("a star", seed=1, **many))
        eventually(lambda: instance_of(cluster, "denoiser")["in_flight"], "it is denoised")
        os.kill(cluster.pid, signal.SIGTERM)
        assert len(request.result(60)) == 1
        assert cluster.wait() == 0
        assert everything_gone(pids)
    assert segments() == before


def test_a_second_sigterm_waits_for_nothing(model: Path) -> None:
    with whole_cluster(model) as cluster:
        pids = all_pids(cluster)
        in_background(lambda: cluster.generate("a star", seed=1, **ENDLESS))
        eventually(lambda: instance_of(cluster, "monolithic")["in_flight"], "it is computed")
        os.kill(cluster.pid, signal.SIGTERM)
        eventually(lambda: "stopping" in cluster.log(), "the first signal is heard")
        os.kill(cluster.pid, signal.SIGTERM)
        assert cluster.wait() == 1
        eventually(lambda: everything_gone(pids), "all processes have ended")


def test_a_killed_supervisor_leaves_nothing(model: Path) -> None:
    before = segments()
    with whole_cluster(model) as cluster:
        pids = all_pids(cluster)
        os.kill(cluster.pid, signal.SIGKILL)
        eventually(lambda: everything_gone(pids), "all processes have ended")
    assert segments() == before


def test_a_model_that_cannot_be_loaded_is_told_in_a_line(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", str(model), str(broken)], check=True)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    command = [sys.executable, "-m", "launch.cli", "up", "--model", str(broken)]
    command += ["--monolithic", "1"]
    done = subprocess.run(
        [*command, "--http", "127.0.0.1:0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("triptych: ")
    assert "did not come up" in last
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_told_in_a_line(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        http = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"triptych: cannot listen on {http}"):
            small_cluster(model, http=http).__enter__()
        words = ["serve", "--disagg-role", "orchestrator", "--http", http]
        command = [sys.executable, "-m", "launch.cli", *words, "--bind", "tcp://127.0.0.1:0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("triptych: ")
    assert http in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_with_0_when_told_to(first: signal.Signals) -> None:
    words = ["serve", "--disagg-role", "orchestrator", "--http", "127.0.0.1:0"]
    command = [sys.executable, "-m", "launch.cli", *words, "--bind", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert '"ready": true' in process.stdout.readline()
        process.send_signal(first)
        assert process.wait(30) == 0


def test_a_cluster_that_fails_to_start_raises_with_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"there is no model folder {tmp_path}/none"):
        Cluster(tmp_path / "none").__enter__()
    with pytest.raises(ClusterError, match="No such option '--wings'"):
        Cluster(tmp_path, wings=2).__enter__()
