"""A cluster started by hand: one `triptych serve` for each process, flags from one file."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launch.addresses import free_port
from launch.client import Client
from tests.support.local_cluster import REQUEST, eventually
from tests.support.served import Served


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    config = tmp_path_factory.mktemp("serve") / "all.yaml"
    control = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
    config.write_text(
        f"model: {model}\nbind: {control}\norchestrator: {control}\nhttp: 127.0.0.1:0\n"
        "threads: 1\nslots: 8\nslot-bytes: 256KiB\n"
    )
    with ExitStack() as stack:
        # the roles first: they wait for their orchestrator
        processes = {
            "encoder,decoder": stack.enter_context(Served(config, "encoder,decoder")),
            "denoiser": stack.enter_context(Served(config, "denoiser", "--name", "dora")),
            "orchestrator": stack.enter_context(Served(config, "orchestrator")),
        }
        yield processes


def test_ready_lines_tell_who_is_there(served: dict[str, Served]) -> None:
    for role, one in served.items():
        assert one.ready["ready"] is True
        assert (one.ready["role"], one.ready["pid"]) == (role, one.process.pid)
    assert served["denoiser"].ready["name"] == "dora"
    assert served["orchestrator"].ready["http"].startswith("http://127.0.0.1:")


def test_roles_that_share_a_process_serve_together(served: dict[str, Served]) -> None:
    with Client(served["orchestrator"].ready["http"]) as client:
        eventually(lambda: client.cluster()["roles"]["decoder"], "the decoder is there")
        images = client.images(
            {"prompt": "a star", "size": REQUEST["size"], "num_inference_steps": 2}
        )
    assert images.files[0].startswith(b"\x89PNG")


def test_each_ends_with_0_when_told_to(served: dict[str, Served]) -> None:
    for role in ("denoiser", "encoder,decoder", "orchestrator"):
        served[role].process.send_signal(signal.SIGTERM)
        assert served[role].process.wait(60) == 0
