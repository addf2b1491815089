import json
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from launch.cli import run, serve
from launch.cli.serve import OF_ORCHESTRATOR, OF_ROLES, orchestrator_options, role_options
from launch.machine import usable_cores
from orchestrator.options import OrchestratorOptions
from roles.options import RoleOptions


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    return str(tmp_path)


def parsed(*words: str) -> dict[str, Any]:
    """The values of all flags, as `serve` gets them."""
    with serve.make_context("serve", list(words)) as ctx:
        return dict(ctx.params)


def test_defaults_are_those_of_the_role_itself(model: str) -> None:
    flags = parsed("--disagg-role", "encoder", "--model", model)
    options = role_options(("encoder",), flags)
    plain = RoleOptions(
        orchestrator="tcp://127.0.0.1:7700",
        model=model,
        roles=("encoder",),
        threads=usable_cores(),
    )
    assert options == plain


@pytest.mark.parametrize(("ranks", "threads"), [("1", 6), ("4", 1), ("9", 1)])
def test_threads_left_out_share_what_mask_and_quota_leave(
    model: str, monkeypatch: pytest.MonkeyPatch, ranks: str, threads: int
) -> None:
    monkeypatch.setattr(sys.modules["launch.cli.serve"], "usable_cores", lambda: 6)
    flags = parsed("--disagg-role", "encoder", "--model", model, "--ranks", ranks)
    assert role_options(("encoder",), flags).threads == threads


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(device: str) -> None:
    assert parsed("--disagg-role", "encoder", "--device", device)["device"] == device


def test_defaults_are_those_of_the_orchestrator_itself() -> None:
    options = orchestrator_options(parsed("--disagg-role", "orchestrator"))
    assert options == OrchestratorOptions(bind="tcp://127.0.0.1:7700", http="127.0.0.1:8000")


def test_every_option_of_a_role_has_a_flag() -> None:
    flags = {name.removesuffix("_s") for name in RoleOptions.__struct_fields__}
    flags = flags - {"origins"} | {"variant", "component", "model_config"}
    assert flags == {"roles", "keys", "media_store", "schedule", *OF_ROLES}


def test_every_option_of_the_orchestrator_has_a_flag() -> None:
    flags = {name.removesuffix("_s") for name in OrchestratorOptions.__struct_fields__}
    assert flags == {"keys", "media_store", "schedule", *OF_ORCHESTRATOR}


def test_flags_arrive_in_the_units_of_the_options(model: str, tmp_path: Path) -> None:
    words = ["--disagg-role", "encoder,decoder", "--model", model, "--slot-bytes", "1MiB"]
    words += ["--orchestrator", "tcp://head:7", "--endpoint", "tcp://0.0.0.0:9", "--threads", "3"]
    words += ["--rank-timeout", "2.5", "--slice", "0.5", "--encoder-cache", "0"]
    words += ["--model-name", "small flux"]
    options = role_options(("encoder", "decoder"), parsed(*words, "--schedule", "fifo"))
    assert (options.slot_bytes, options.threads) == (1 << 20, 3)
    assert (options.rank_timeout_s, options.slice_s, options.schedule) == (2.5, 0.5, "fifo")
    assert options.encoder_cache == 0
    assert options.model_name == "small flux"
    assert (options.orchestrator, options.endpoint) == ("tcp://head:7", "tcp://0.0.0.0:9")
    state = tmp_path / "a" / "b"
    words = ["--disagg-role", "orchestrator", "--state-dir", str(state), "--request-timeout", "5"]
    words += ["--denoisers", "tcp://b:1,tcp://a:2", "--max-pixels", "65536"]
    keys = tmp_path / "keys"
    keys.touch()
    words += ["--api-keys", str(keys), "--rate-limit", "60/minute", "--default-model", "flux"]
    assert orchestrator_options(parsed(*words)).max_models == 1
    words += ["--max-models", "3"]
    words += ["--journal", "postgresql://host/jobs", "--job-ttl", "60", "--job-bytes", "1MiB"]
    front = orchestrator_options(parsed(*words))
    assert (front.journal, front.job_ttl_s) == ("postgresql://host/jobs", 60)
    assert front.job_bytes == 1 << 20
    assert (front.max_pixels, front.rate_limit) == (65536, "60/minute")
    assert (front.default_model, front.max_models) == ("flux", 3)
    assert front.api_keys == str(keys)
    assert (front.state_dir, front.request_timeout_s) == (str(state), 5)
    assert front.denoisers == ["tcp://b:1", "tcp://a:2"]
    assert state.is_dir()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--disagg-role", "painter"], 2, "'painter' is no role; there are orchestrator, encoder"),
        (["--disagg-role", "encoder,encoder"], 2, "names a role twice"),
        (["--disagg-role", "encoder,orchestrator"], 2, "orchestrator shares its process with no"),
        (["--disagg-role", "monolithic,decoder"], 2, "monolithic shares its process with no"),
        (["--disagg-role", "encoder", "--device", "gpu"], 2, "write cpu, cuda or cuda:N"),
        (["--disagg-role", "encoder", "--device", "cuda:x"], 2, "'cuda:x' is no device"),
        (["--disagg-role", "encoder", "--device", "cpu:1"], 2, "'cpu:1' is no device"),
        (["--disagg-role", "encoder"], 2, "--model is missing: encoder needs a model"),
        (["--disagg-role", "encoder", "--model-name", "default"], 2, "'default' is no name of a m"),
        (["--disagg-role", "encoder", "--model-name", ""], 2, "'' is no name of a model"),
        (["--disagg-role", "encoder", "--default-model", "a"], 2, "--default-model is no flag of"),
        (["--disagg-role", "encoder", "--http", "x:1"], 2, "--http is no flag of --disagg-role en"),
        (["--disagg-role", "orchestrator", "--ranks", "2"], 2, "--ranks is no flag of"),
        (["--disagg-role", "decoder", "--parallel", "ring"], 2, "--parallel is no flag of"),
        (["--disagg-role", "encoder", "--parallel", "tiles"], 2, "--parallel is no flag of"),
        (
            ["--disagg-role", "denoiser", "--ranks", "2", "--parallel", "tiles"],
            2,
            "tiles are divided where pictures are decoded, not in --disagg-role denoiser",
        ),
        (
            ["--disagg-role", "decoder", "--ranks", "2", "--parallel", "tiles=3"],
            2,
            "--parallel tiles=3: tiles=3 is for 3 ranks, not 2",
        ),
        (
            ["--disagg-role", "denoiser", "--ranks", "2", "--parallel", "ulysses=4"],
            2,
            "--parallel ulysses=4 is for 4 ranks, and --ranks is 2",
        ),
        (["--disagg-role", "orchestrator", "--bind", "here"], 2, "write tcp://HOST:PORT"),
        (["--disagg-role", "orchestrator", "--encoders", "a:1"], 2, "write tcp://HOST:PORT"),
        (["--disagg-role", "decoder", "--model", "/no/such"], 1, "no model folder /no/such"),
        (["--disagg-role", "orchestrator", "--rate-limit", "60"], 2, "such as 60/minute"),
        (["--disagg-role", "orchestrator", "--rate-limit", "0/hour"], 2, "'0/hour' is no rate"),
        (["--disagg-role", "orchestrator", "--max-pixels", "0"], 2, "--max-pixels"),
        (["--disagg-role", "orchestrator", "--api-keys", "/no/such"], 2, "/no/such"),
        (["--disagg-role", "orchestrator", "--state-dir", "/dev/null/a"], 1, "/dev/null/a"),
    ],
)
def test_a_bad_flag_is_one_line(
    words: list[str], code: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *words]) == code
    [line] = capsys.readouterr().err.splitlines()
    assert part in line


def test_a_file_may_hold_flags_of_several_roles(tmp_path: Path, model: str) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"model: {model}\nhttp: 127.0.0.1:9000\norchestrator: tcp://head:1\n")
    flags = parsed("--disagg-role", "decoder", "--config", str(file))
    assert role_options(("decoder",), flags).orchestrator == "tcp://head:1"
    assert orchestrator_options(flags).http == "127.0.0.1:9000"


@pytest.mark.parametrize(
    ("role", "parallel", "joins"),
    [
        ("encoder", None, False),
        ("denoiser", "guidance=2", True),
        ("decoder", "tiles", True),
        ("monolithic", "guidance=2,tiles", True),
    ],
)
def test_each_role_takes_of_parallel_what_concerns_it(
    tmp_path: Path, model: str, role: str, parallel: str | None, joins: bool
) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"model: {model}\nranks: 2\nparallel: guidance=2,tiles\n")
    options = role_options((role,), parsed("--disagg-role", role, "--config", str(file)))
    assert (options.parallel, options.joins) == (parallel, joins)


def hosts(model: str, *words: str) -> RoleOptions:
    flags = parsed("--disagg-role", "denoiser", "--model", model, "--device", "cuda:4", *words)
    return role_options(("denoiser",), flags)


def test_ranks_of_several_hosts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["launch.cli.serve"], "usable_cores", lambda: 6)
    at = ("--rendezvous", "10.0.0.7:7710", "--nnodes", "2")
    options = hosts(model, *at, "--ranks", "4", "--node-rank", "1")
    assert (options.ranks, options.ranks_here, options.node_rank) == (4, 2, 1)
    assert (options.rendezvous, options.threads) == ("10.0.0.7:7710", 3)
    assert [options.node_of(rank) for rank in range(4)] == [0, 0, 1, 1]
    assert [options.rank_device(rank) for rank in range(4)] == ["cuda:4", "cuda:5"] * 2
    assert hosts(model, *at).ranks == 2  # one on each
    assert hosts(model).ranks == 1


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (["--nnodes", "2"], "--nnodes 2 needs --rendezvous HOST:PORT"),
        (["--nnodes", "2", "--rendezvous", "a:0"], "--nnodes 2 needs --rendezvous HOST:PORT"),
        (["--node-rank", "1"], "--node-rank 1 is one of --nnodes, which is 1"),
        (
            ["--nnodes", "2", "--rendezvous", "a:1", "--node-rank", "2"],
            "--node-rank 2: --nnodes 2 are 0 to 1",
        ),
        (
            ["--nnodes", "2", "--rendezvous", "a:1", "--ranks", "3"],
            "--ranks 3 cannot be divided among --nnodes 2",
        ),
    ],
)
def test_hosts_that_cannot_be(model: str, words: list[str], mistake: str) -> None:
    with pytest.raises(click.UsageError, match=mistake):
        hosts(model, *words)
