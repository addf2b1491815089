"""The command lines that `up` makes are ones that `serve` understands."""

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from launch.addresses import free_port
from launch.child import Recipe
from launch.cli import serve, up
from launch.cli.serve import orchestrator_options, role_options
from launch.errors import LaunchError
from launch.local import LocalCluster
from orchestrator.api_keys import hash_of
from roles.cores import Cores
from tests.support.fake_hub import FakeHub


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    return str(tmp_path)


def planned(*words: str) -> LocalCluster:
    with up.make_context("up", ["--http", "127.0.0.1:0", *words]) as ctx:
        return LocalCluster.planned(ctx.params)


def served(recipe: Recipe) -> dict[str, Any]:
    words = list(recipe.command)
    with serve.make_context("serve", words[words.index("serve") + 1 :]) as ctx:
        return dict(ctx.params)


def test_endpoints_are_declared_in_the_order_of_names(model: str) -> None:
    cluster = planned("--model", model, "--denoisers", "3", "--device", "cpu")
    front = orchestrator_options(served(cluster.orchestrator))
    instances = [role_options(flags["roles"], flags) for flags in map(served, cluster.instances)]
    denoisers = [each for each in instances if each.roles == ("denoiser",)]
    assert [each.name for each in denoisers] == ["denoiser-0", "denoiser-1", "denoiser-2"]
    assert front.denoisers == [each.endpoint for each in denoisers]
    assert len({each.endpoint for each in instances}) == len(instances)
    assert {each.orchestrator for each in instances} == {front.bind}
    assert front.http == str(cluster.http)


def test_the_supervisor_has_a_key_of_its_own_where_keys_are_asked_for(
    model: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    words = ["--api-keys", str(keys), "--rate-limit", "5/second", "--max-pixels", "4096"]
    cluster = planned("--model", model, *words)
    front = orchestrator_options(served(cluster.orchestrator))
    assert (front.api_keys, front.rate_limit, front.max_pixels) == (str(keys), "5/second", 4096)
    assert cluster.key
    assert front.supervisor_key == hash_of(cluster.key.encode())
    assert cluster.key not in " ".join(cluster.orchestrator.command)  # everybody may read that
    assert planned("--model", model).key is None


def test_flags_are_passed_on(model: str, tmp_path: Path) -> None:
    words = ["--slots", "3", "--slot-bytes", "1MiB", "--max-batch", "2", "--dtype", "bfloat16"]
    words += ["--transfer", "shm", "--media-store", str(tmp_path), "--threads", "5"]
    words += ["--keys", os.environ["TRIPTYCH_KEYS"]]
    words += ["--policy", "least_loaded", "--request-timeout", "7", "--max-queue", "9"]
    words += ["--model-name", "big", "--default-model", "small", "--max-models", "2"]
    cluster = planned("--model", model, *words, "--state-dir", str(tmp_path / "state"))
    front = orchestrator_options(served(cluster.orchestrator))
    assert (front.policy, front.request_timeout_s, front.max_queue) == ("least_loaded", 7, 9)
    assert (front.default_model, front.max_models) == ("small", 2)
    assert {each["model_name"] for each in map(served, cluster.instances)} == {"big"}
    assert front.keys == os.environ["TRIPTYCH_KEYS"]
    assert front.state_dir == str(tmp_path / "state")
    for flags in map(served, cluster.instances):
        options = role_options(flags["roles"], flags)
        assert (options.slots, options.slot_bytes, options.max_batch) == (3, 1 << 20, 2)
        assert (options.dtype, options.transfer, options.threads) == ("bfloat16", "shm", 5)
        assert options.keys == front.keys
        assert (options.media_store, front.media_store) == (str(tmp_path), str(tmp_path))


def test_every_process_ends_with_its_supervisor(model: str) -> None:
    cluster = planned("--model", model)
    for recipe in (cluster.orchestrator, *cluster.instances):
        assert served(recipe)["parent_pid"] == os.getpid()


def test_roles_of_other_hosts_may_register_at_a_given_address(model: str) -> None:
    port = free_port("127.0.0.1")
    cluster = planned("--model", model, "--control", f"tcp://0.0.0.0:{port}", "--denoisers", "0")
    assert orchestrator_options(served(cluster.orchestrator)).bind == f"tcp://0.0.0.0:{port}"
    assert {str(served(each)["orchestrator"]) for each in cluster.instances} == {
        f"127.0.0.1:{port}"
    }
    assert not cluster.plan.complete


def test_roles_of_other_hosts_learn_the_advertised_name(model: str) -> None:
    cluster = planned("--model", model, "--advertise", "box", "--denoisers", "0")
    declared = served(cluster.orchestrator)["encoders"]
    flags = served(cluster.instances[0])
    assert (flags["advertise"], flags["endpoint"].host) == ("box", "0.0.0.0")
    assert [str(address) for address in declared] == [f"tcp://box:{flags['endpoint'].port}"]


def test_without_one_nothing_listens_for_other_hosts(model: str) -> None:
    cluster = planned("--model", model)
    assert {served(each)["endpoint"].host for each in cluster.instances} == {"127.0.0.1"}


def test_without_counts_instances_have_all_roles_and_share_the_cores(model: str) -> None:
    cluster = planned("--model", model, "--device", "cpu")
    instances = [role_options(flags["roles"], flags) for flags in map(served, cluster.instances)]
    assert {each.roles for each in instances} == {("encoder", "denoiser", "decoder")}
    front = orchestrator_options(served(cluster.orchestrator))
    endpoints = [each.endpoint for each in instances]
    assert (front.encoders, front.denoisers, front.decoders) == (endpoints, endpoints, endpoints)
    assert cluster.plan.lends == (len(instances) > 1)
    for each in instances:
        assert (each.cores_file is not None) == cluster.plan.lends
        if each.cores_file is not None:
            Cores(1, each.cores, each.cores_file).close()  # others can open it


def test_threads_that_were_asked_for_are_shared_with_nobody(model: str) -> None:
    cluster = planned("--model", model, "--device", "cpu", "--threads", "1")
    for flags in map(served, cluster.instances):
        assert (flags["threads"], flags["cores_file"]) == (1, None)


def test_requests_at_a_time_are_chosen_only_where_they_were_left_out(model: str) -> None:
    with up.make_context("up", ["--model", model, "--http", "127.0.0.1:0"]) as ctx:
        chosen = LocalCluster.planned({**ctx.params, "device": "cpu", "max_batch": None})
    assert {served(each)["max_batch"] for each in chosen.instances} == {8}
    asked = planned("--model", model, "--device", "cpu", "--max-batch", "2")
    assert {served(each)["max_batch"] for each in asked.instances} == {2}


def test_ranks_are_for_those_that_denoise(model: str) -> None:
    words = ["--ranks", "4", "--parallel", "guidance=2,ulysses", "--device", "cpu"]
    cluster = planned("--model", model, "--denoisers", "1", *words)
    instances = [role_options(flags["roles"], flags) for flags in map(served, cluster.instances)]
    told = {each.roles: (each.ranks, each.parallel) for each in instances}
    assert told == {
        ("encoder",): (1, None),
        ("denoiser",): (4, "guidance=2,ulysses"),
        ("decoder",): (1, None),
    }


def test_ranks_that_cannot_be_divided_like_that_are_a_mistake(model: str) -> None:
    with pytest.raises(click.UsageError, match="--parallel ulysses=3 is for 3 ranks"):
        planned("--model", model, "--ranks", "2", "--parallel", "ulysses=3")


def test_all_roles_get_the_commit_that_a_branch_is_at(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        commit = hub.push("someone/pictures", Path(model), "v1")
        counts = ["--denoisers", "2", "--device", "cpu", "--variant", "fp16"]
        cluster = planned("--model", "someone/pictures@v1", *counts)
        asked = hub.questions
        for flags in map(served, cluster.instances):
            options = role_options(flags["roles"], flags)
            assert options.model == f"someone/pictures@{commit}"
            assert options.origins.variant == "fp16"
        assert hub.questions == asked  # roles that start again need no network
        with pytest.raises(LaunchError, match="has no branch, tag or commit v2"):
            planned("--model", "someone/pictures@v2")


def test_all_roles_get_the_same_components(model: str, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    file = tmp_path / "flags.yaml"
    file.write_text(f"component:\n  vae: {tmp_path}/vae\n  unet: {tmp_path}:vae\n")
    for words in (["--config", str(file)], ["--component", f"vae={tmp_path}/vae"]):
        cluster = planned("--model", model, *words, "--denoisers", "1", "--device", "cpu")
        told = [role_options(f["roles"], f).origins for f in map(served, cluster.instances)]
        assert len(told) == 3
        assert told[0].components["vae"] == f"{tmp_path}/vae"
        assert told[0] == told[1] == told[2]
    assert told[0].components.keys() == {"vae"}
    with pytest.raises(LaunchError, match="--component vae is given twice"):
        planned("--model", model, *words, "--component", f"vae={tmp_path}")
    with pytest.raises(LaunchError, match="--component vae: there is no folder nowhere"):
        planned("--model", model, "--component", "vae=nowhere")
    with pytest.raises(click.UsageError, match="write NAME=DIR_OR_ID"):
        planned("--model", model, "--component", "vae")


@pytest.mark.parametrize("counts", [("--all-in-one", "2"), ("--monolithic", "1"), ()])
def test_switches_of_the_transformer_reach_all_who_have_one(
    counts: tuple[str, ...], model: str
) -> None:
    """Also those that have the other roles too, which is the choice without CUDA."""
    switches = ("--compile", "--attention-backend", "flex", "--quantize", "int8")
    words = (*switches, "--step-cache", "taylorseer:4", "--device", "cpu", *counts)
    cluster = planned("--model", model, *words)
    speeds = [role_options(f["roles"], f).speed() for f in map(served, cluster.instances)]
    assert speeds
    for speed in speeds:
        assert speed is not None
        assert (speed.compile, speed.attention, speed.quantize) == (True, "flex", "int8")
        assert speed.step_cache is not None


def test_and_nobody_else(model: str) -> None:
    cluster = planned("--model", model, "--encoders", "1", "--compile", "--device", "cpu")
    told = {flags["roles"]: flags["compile"] for flags in map(served, cluster.instances)}
    assert told == {("encoder",): False, ("denoiser",): True, ("decoder",): False}
