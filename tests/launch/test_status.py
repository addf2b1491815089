from typing import Any

import pytest

from launch.cli import run
from tests.support.canned_server import Canned

REQUESTS = {"queued": 1, "running": 2, "completed": 3, "failed": 0, "cancelled": 0}


def instance(name: str, quarantined: int = 0, host: str = "here") -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": "tcp://127.0.0.1:1",
        "epoch": 7,
        "state": "ready",
        "order": 0,
        "capacity": 5,
        "in_flight": 2,
        "slots": {"total": 32, "leased": 3, "quarantined": quarantined},
        "ranks": [{"rank": 0, "pid": 4711, "state": "ready"}],
        "host": host,
    }


def shown(canned: Canned, capsys: pytest.CaptureFixture[str], **roles: list[dict[str, Any]]) -> str:
    every: dict[str, list[Any]] = {"encoder": [], "denoiser": [], "decoder": [], "monolithic": []}
    canned.answer("GET /v1/cluster", 200, {"roles": every | roles, "requests": REQUESTS})
    assert run(["status", "--url", canned.url]) == 0
    return capsys.readouterr().out


def test_one_that_warms_up_says_how_far_it_is(
    canned: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    warming = instance("d-0") | {"state": "warming", "warmed": [1, 6]}
    assert "warming 1/6" in shown(canned, capsys, denoiser=[warming])


def test_a_row_for_each_instance_and_for_what_is_missing(
    canned: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(canned, capsys, denoiser=[instance("d-0", quarantined=4), instance("d-1")])
    assert [line.split()[:2] for line in text.splitlines() if " d-" in line or "none" in line] == [
        ["encoder", "none"],
        ["denoiser", "d-0"],
        ["denoiser", "d-1"],
        ["decoder", "none"],
    ]
    assert "2/5" in text
    assert "3/32 +4" in text
    assert "1 queued, 2 running, 3 completed" in text


def test_the_runner_of_each_role_is_named(
    canned: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    writes = instance("e-0") | {"runner": "autoregressive"}
    text = shown(canned, capsys, encoder=[writes], denoiser=[instance("d-0")])
    assert "runner: encoder autoregressive, denoiser diffusion" in text


def test_one_host_is_told_once_and_the_table_fits(
    canned: Canned, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(canned, capsys, denoiser=[instance("encoder+decoder-ab12", quarantined=16)])
    header, row = (line for line in text.splitlines() if "role" in line or "+16" in line)
    assert header.split()[-4:] == ["in", "flight", "slots", "ranks"]
    assert row.endswith("4711 ready")
    assert "host: here" in text


def test_several_hosts_have_a_column(
    canned: Canned, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    instances = [instance("d-0", host="here"), instance("d-1", host="there")]
    text = shown(canned, capsys, denoiser=instances)
    assert [line.split()[-1] for line in text.splitlines() if " d-" in line] == ["here", "there"]
    assert "host:" not in text


def test_with_a_whole_pipeline_no_role_is_missed(
    canned: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(canned, capsys, monolithic=[instance("m-0")])
    assert "none" not in text
    assert "m-0" in text


def test_of_several_models_each_has_its_table(
    canned: Canned, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    roles: dict[str, list[dict[str, Any]]] = {
        "encoder": [instance("e-0") | {"model": "flux"}],
        "denoiser": [instance("d-0") | {"model": "flux"}, instance("d-1") | {"model": "wan [x]"}],
        "decoder": [instance("v-0") | {"model": "flux"}],
        "monolithic": [],
    }
    models = {
        "flux": {"ready": True, "missing": [], "requests": REQUESTS},
        "wan [x]": {"ready": False, "missing": ["encoder", "decoder"], "requests": REQUESTS},
    }
    view = {"roles": roles, "requests": REQUESTS, "models": models}
    canned.answer("GET /v1/cluster", 200, view)
    assert run(["status", "--url", canned.url]) == 0
    flux, wan = capsys.readouterr().out.split("model wan [x]: lacks encoder, decoder")
    assert flux.startswith("model flux: ready")
    assert all(name in flux for name in ("e-0", "d-0", "v-0"))
    assert "d-1" in wan
    assert "d-0" not in wan
    assert [line.split()[:2] for line in wan.splitlines() if "none" in line] == [
        ["encoder", "none"],
        ["decoder", "none"],
    ]
    assert wan.rstrip().endswith("0 cancelled")


def test_the_one_model_is_named(canned: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    roles = {"monolithic": [instance("m-0") | {"model": "flux"}]}
    models = {"flux": {"ready": True, "missing": [], "requests": REQUESTS}}
    canned.answer("GET /v1/cluster", 200, {"roles": roles, "requests": REQUESTS, "models": models})
    assert run(["status", "--url", canned.url]) == 0
    text = capsys.readouterr().out
    assert "model: flux" in text
    assert text.count("requests:") == 1
