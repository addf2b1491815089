"""What dies costs its own request, and comes back."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launch import Cluster
from launch.client import RequestError
from tests.support.local_cluster import (
    ENDLESS,
    REQUEST,
    eventually,
    in_background,
    instance_of,
    process_of,
    small_cluster,
)


@pytest.fixture(scope="module")
def cluster(model: Path) -> Iterator[Cluster]:
    """One that may be harmed; each test leaves it whole, the last one aside."""
    with small_cluster(model) as running:
        yield running


def denoising(cluster: Cluster) -> bool:
    return bool(instance_of(cluster, "denoiser").get("in_flight"))


LONG = {"size": "32x32", "steps": 600}  # seconds: something can happen meanwhile


def test_a_killed_rank_is_replaced_and_its_request_has_the_same_pixels(cluster: Cluster) -> None:
    [undisturbed] = cluster.generate("a star", seed=1, **LONG)
    request = in_background(lambda: cluster.generate("a star", seed=1, **LONG))
    eventually(lambda: denoising(cluster), "a request is denoised")
    [rank] = instance_of(cluster, "denoiser")["ranks"]
    os.kill(rank["pid"], signal.SIGKILL)
    [picture] = request.result(60)
    assert picture.tobytes() == undisturbed.tobytes()
    [replacement] = instance_of(cluster, "denoiser")["ranks"]
    assert (replacement["rank"], replacement["state"]) == (0, "ready")
    assert replacement["pid"] != rank["pid"]
    assert "died of SIGKILL" in cluster.log()


def test_i8_a_request_that_kills_every_worker_fails_and_says_why(cluster: Cluster) -> None:
    request = in_background(lambda: cluster.generate("a star", seed=1, **ENDLESS))
    killed = {0}
    while not request.done():
        ranks = instance_of(cluster, "denoiser")["ranks"]
        if ranks and ranks[0]["pid"] not in killed and denoising(cluster):
            killed.add(ranks[0]["pid"])
            os.kill(ranks[0]["pid"], signal.SIGKILL)
        time.sleep(0.05)
    with pytest.raises(RequestError, match=r"rank 0 .* of denoiser-0 died of SIGKILL") as caught:
        request.result(0)
    assert (caught.value.status, caught.value.code) == (500, "rank_died")
    assert "after 3 attempts" in str(caught.value)
    assert len(killed) == 1 + 3
    assert len(ready_generate(cluster)) == 1


@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_a_killed_role_is_started_again(cluster: Cluster, role: str) -> None:
    before = instance_of(cluster, role)
    # its leader is the parent of its rank: the pid of the ready line may be of an earlier life
    leader = parent_of(before["ranks"][0]["pid"])
    os.kill(leader, signal.SIGKILL)
    after = eventually(
        lambda: [
            each
            for each in cluster.status()["roles"][role]
            if each["state"] == "ready" and each["epoch"] > before["epoch"]
        ],
        f"the {role} is back",
    )
    assert [(each["name"], each["order"]) for each in after] == [(f"{role}-0", 0)]
    assert f"{role}-0 died (SIGKILL)" in cluster.log()
    assert len(ready_generate(cluster)) == 1


def test_a_killed_orchestrator_is_started_again_and_roles_register_again(cluster: Cluster) -> None:
    os.kill(process_of(cluster, "orchestrator")["pid"], signal.SIGKILL)
    assert len(ready_generate(cluster)) == 1
    assert "orchestrator died (SIGKILL)" in cluster.log()


def test_a_drained_instance_leaves_and_stays_away(cluster: Cluster) -> None:
    leader = parent_of(instance_of(cluster, "decoder")["ranks"][0]["pid"])
    cluster.drain("decoder-0")
    eventually(lambda: "decoder-0 has left" in cluster.log(), "the supervisor sees it leave")
    eventually(lambda: not os.path.exists(f"/proc/{leader}"), "its leader has ended")
    with pytest.raises(RequestError, match="decoder") as caught:
        cluster.generate("a star", **REQUEST)
    assert caught.value.status == 503


def parent_of(pid: int) -> int:
    return psutil.Process(pid).ppid()


def ready_generate(cluster: Cluster) -> list[object]:
    """One request, as soon as the cluster takes one again."""

    def attempt() -> list[object]:
        try:
            return list(cluster.generate("a star", seed=1, **REQUEST))
        except RequestError as error:
            if error.status not in (None, 503):
                raise
            return []

    return eventually(attempt, "the cluster serves again")
