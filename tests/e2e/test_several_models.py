"""Two models behind one orchestrator, as processes: one split, one whole."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest
from click.testing import CliRunner

from launch.addresses import free_port
from launch.cli.generate import generate
from launch.cli.status import status
from launch.client import Client, RequestError
from tests.support.local_cluster import eventually
from tests.support.served import Served

ASKED = {"prompt": "a star", "size": "32x32", "num_inference_steps": 2, "seed": 3}
ROLES = ("encoder,decoder", "denoiser")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.pipelines import build

    return build("flux", tmp_path_factory.mktemp("models") / "flux")


@pytest.fixture(scope="module")
def served(
    model: Path, other: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Served]]:
    folder = tmp_path_factory.mktemp("several")
    control = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
    config = folder / "all.yaml"
    config.write_text(
        f"bind: {control}\norchestrator: {control}\nhttp: 127.0.0.1:{free_port('127.0.0.1')}\n"
        f"state-dir: {folder / 'state'}\nthreads: 1\nslots: 8\nslot-bytes: 256KiB\n"
        "max-models: 2\n"
    )
    with ExitStack() as stack:
        processes = {"orchestrator": stack.enter_context(Served(config, "orchestrator"))}
        for role in ROLES:
            words = ("--model", str(model))
            processes[role] = stack.enter_context(Served(config, role, *words))
        words = ("--model", str(other), "--model-name", "small flux")
        processes["monolithic"] = stack.enter_context(Served(config, "monolithic", *words))
        for one in processes.values():
            assert one.ready["ready"]
        processes["config"] = config  # type: ignore[assignment]
        yield processes


@pytest.fixture
def url(served: dict[str, Served]) -> str:
    url: str = served["orchestrator"].ready["http"]
    eventually(lambda: httpx.get(f"{url}/ready").json().get("models"), "both are there")
    eventually(lambda: httpx.get(f"{url}/ready").is_success, "both are ready")
    return url


def test_each_makes_its_own_pictures(url: str) -> None:
    with Client(url) as client:
        files = {
            name: client.images({**ASKED, "model": name}).files for name in ("sd15", "small flux")
        }
        assert files["sd15"] != files["small flux"]
        again = client.images({**ASKED, "model": "sd15"}).files
        assert again == files["sd15"]
        with pytest.raises(RequestError, match="; name one") as refused:
            client.images(ASKED)
        assert refused.value.status == 400
        assert all(f"`{name}`" in str(refused.value) for name in files)


def test_they_are_listed_as_openai_lists_models(url: str) -> None:
    sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    assert sorted(each.id for each in sdk.models.list()) == ["sd15", "small flux"]
    assert sdk.models.retrieve("small flux").id == "small flux"
    with pytest.raises(openai.NotFoundError, match="serves"):
        sdk.images.generate(prompt="a", model="dall-e-3")
    sdk.close()


def test_the_command_line_tells_them_apart(url: str, tmp_path: Path) -> None:
    runner, picture = CliRunner(), tmp_path / "a.png"
    words = ["a star", "-o", str(picture), "--url", url, "--steps", "2", "--size", "32x32"]
    done = runner.invoke(generate, [*words, "--model", "small flux"])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = runner.invoke(status, ["--url", url]).output
    assert "model sd15: ready" in shown
    assert "model small flux: ready" in shown


def test_jobs_keep_their_model_over_a_restart_of_the_orchestrator(
    served: dict[str, Served], url: str
) -> None:
    """F4. Which of the two registers first again is anybody's guess."""
    many = {**ASKED, "num_inference_steps": 200, "size": "64x64"}
    jobs = {}
    for name in ("small flux", "sd15", "small flux"):
        reply = httpx.post(f"{url}/v1/jobs", json={**many, "model": name})
        assert reply.status_code == 202, reply.text
        jobs[reply.json()["id"]] = name
    before = served["orchestrator"]
    before.process.send_signal(signal.SIGKILL)
    before.process.wait()
    with Served(served["config"], "orchestrator") as after:  # type: ignore[arg-type]
        assert after.ready["http"] == url
        for id, name in jobs.items():

            def over(id: str = id) -> str:
                status: str = httpx.get(f"{url}/v1/jobs/{id}").json()["status"]
                return status if status not in ("queued", "running") else ""

            assert eventually(over, f"{id} is over") == "completed"
            assert httpx.get(f"{url}/v1/jobs/{id}").json()["model"] == name
        view = httpx.get(f"{url}/v1/cluster").json()["models"]
        completed = {name: model["requests"]["completed"] for name, model in view.items()}
        assert completed["sd15"] + completed["small flux"] <= 3
