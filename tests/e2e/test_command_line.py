"""The commands of a user against a real cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from launch import Cluster

TRIPTYCH = (sys.executable, "-m", "launch.cli")


def triptych(cluster: Cluster, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*TRIPTYCH, *words, "--url", cluster.url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_generate_writes_numbered_files_and_tells_seed_and_time(
    cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "star.webp"
    words = ["a star", "-o", str(output), "-n", "2", "--seed", "7", "--size", "32x32"]
    done = triptych(cluster, "generate", *words, "--steps", "2")
    assert done.returncode == 0, done.stderr
    first, second, timings = done.stdout.splitlines()
    assert first == f"{tmp_path}/star-1.webp  (seed 7)"
    assert second.endswith("(seed 8)")
    assert all(stage in timings for stage in ("queue", "encoder", "denoiser", "decoder"))
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("WEBP", (32, 32))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--size", "33x32"], "33 is not a multiple of"),
        (["--steps", "100000"], "num_inference_steps"),
        (["-n", "11"], "`n`"),
        (["--guidance", "-1"], "guidance_scale"),
    ],
)
def test_what_the_cluster_refuses_is_one_line(
    cluster: Cluster, tmp_path: Path, words: list[str], part: str
) -> None:
    done = triptych(cluster, "generate", "a star", "-o", str(tmp_path / "a.png"), *words)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("triptych: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_generate_gives_up_in_time(cluster: Cluster, tmp_path: Path) -> None:
    words = ["a star", "-o", str(tmp_path / "a.png"), "--steps", "900", "--timeout", "0.2"]
    done = triptych(cluster, "generate", *words, "--size", "256x256")
    assert done.returncode == 1
    assert "within the time limit" in done.stderr


def test_status_shows_every_instance(cluster: Cluster) -> None:
    shown = triptych(cluster, "status").stdout
    for name in ("encoder-0", "denoiser-0", "decoder-0"):
        assert name in shown
    assert "requests:" in shown
    view = json.loads(triptych(cluster, "status", "--json").stdout)
    assert [instance["name"] for instance in view["roles"]["denoiser"]] == ["denoiser-0"]


@pytest.mark.parametrize("command", ["drain", "remove"])
def test_an_unknown_instance_is_told(cluster: Cluster, command: str) -> None:
    done = triptych(cluster, command, "nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("triptych: there is no instance `nobody`")


def test_a_second_instance_under_a_live_name_is_refused(cluster: Cluster, model: Path) -> None:
    words = ["--disagg-role", "decoder", "--name", "decoder-0", "--model", str(model)]
    command = [*TRIPTYCH, "serve", *words, "--orchestrator", cluster.control, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("triptych: ")
    assert "decoder-0" in last
    assert "Traceback" not in done.stderr
