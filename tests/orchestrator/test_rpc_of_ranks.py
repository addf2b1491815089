"""Calls to every rank, from HTTP to four rank processes and back, with a fault on rank 1.

The processes are real; the ranks have no model and no torch (tests/support/plain_rank.py).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.leader_process import LeaderProcess, leader
from tests.support.orchestrator_process import orchestrator
from tests.support.troupe import eventually, new_client, picture_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
RANKS = 4
NAME = "monolithic-0"
PATIENT_S = 120.0  # of calls that are answered long before
SHORT_S = 3.0


class Stage:
    """An orchestrator, and the instance `monolithic-0` of four ranks. `folder`: what goes wrong."""

    def __init__(self, client: httpx.AsyncClient, control: str, folder: Path) -> None:
        self.client, self.control, self.folder = client, control, folder

    async def rpc(self, method: str = "health", **fields: Any) -> dict[str, Any]:
        body = {"target": NAME, "method": method, "timeout_s": PATIENT_S, **fields}
        reply = await self.client.post("/v1/cluster/rpc", json=body)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def ranks(self, method: str = "health", **fields: Any) -> dict[str, Any]:
        """Of one instance."""
        return dict((await self.rpc(method, **fields))["instances"][NAME]["ranks"])

    async def make(self, seed: int) -> httpx.Response:
        body = {"prompt": "a star", "seed": seed, "size": "auto"}
        return await self.client.post("/v1/images/generations", json=body)

    def fault(self, at: str, what: str, rank: int = 1) -> Path:
        path = self.folder / f"{at}.{rank}"
        path.write_text(what)
        return path

    async def seen(self) -> dict[str, Any]:
        told = (await self.client.get("/v1/cluster")).json()
        return dict(told["roles"]["monolithic"][0])

    async def pids(self) -> list[int]:
        return [rank["pid"] for rank in (await self.seen())["ranks"]]

    async def is_ready(self) -> bool:
        return (await self.seen())["state"] == "ready"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    state, folder = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("faults")
    async with (
        orchestrator(state) as process,
        new_client(process.http) as client,
        started(process.control, folder, NAME),
    ):
        made = Stage(client, process.control, folder)
        await eventually(made.is_ready)
        yield made


def started(control: str, folder: Path, name: str, ranks: int = RANKS) -> Any:
    return leader(
        control,
        ranks_are="tests.support.plain_rank",
        model=str(folder),
        roles=("monolithic",),
        name=name,
        ranks=ranks,
    )


async def test_every_rank_answers_for_itself(stage: Stage) -> None:
    told = await stage.rpc(target="monolithic")
    assert (told["ok"], told["method"]) == (True, "health")
    (instance,) = told["instances"].values()
    assert (instance["ok"], instance["state"], instance["error"]) == (True, "ready", None)
    assert list(instance["ranks"]) == ["0", "1", "2", "3"]
    assert [rank["pid"] for rank in instance["ranks"].values()] == await stage.pids()
    for rank in instance["ranks"].values():
        assert rank["ok"]
        assert rank["error"] is None
        assert rank["host"]
        assert rank["value"]["tested"]  # nothing was computed lately
        assert rank["value"]["host_bytes"] > 1 << 20


async def test_v1_f22_a_rank_that_raises_is_told_with_its_traceback(stage: Stage) -> None:
    fault = stage.fault("health", "raise")
    told = await stage.rpc()
    fault.unlink()
    assert not told["ok"]
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    error = ranks["1"]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "as health.1 says")
    assert "in misbehave" in error["traceback"]
    assert (await stage.rpc())["ok"]  # and they go on


async def test_v2_f22_a_rank_that_raises_amid_a_step_fails_the_request(stage: Stage) -> None:
    fault = stage.fault("step", "raise")
    pids = await stage.pids()
    reply = await stage.make(10)
    fault.unlink()
    assert reply.status_code == 500
    message = reply.json()["error"]["message"]
    assert f"rank 1 (pid {pids[1]}) raised ValueError: as step.1 says" in message
    assert picture_of(await stage.make(20)) == 23
    assert await stage.pids() == pids


async def test_v7_a_request_that_made_nothing_is_an_error(stage: Stage) -> None:
    """And no success without a picture."""
    fault = stage.fault("collect", "nothing", rank=0)
    reply = await stage.make(15)
    fault.unlink()
    assert reply.status_code == 500
    assert reply.json()["error"]["message"].startswith("the model made nothing")
    assert picture_of(await stage.make(20)) == 23


async def test_v3_v4_a_rank_that_is_silent_is_named_and_its_late_answer_dropped(
    stage: Stage,
) -> None:
    pids = await stage.pids()
    fault = stage.fault("health", "hang")
    ranks = await stage.ranks(timeout_s=SHORT_S)
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    assert ranks["1"]["error"]["type"] == "RankSilent"
    waiting = [asyncio.create_task(stage.ranks()) for _ in range(3)]
    fault.unlink()  # the late answer comes first, then those that are waited for
    for told in await asyncio.gather(*waiting):
        assert all(rank["ok"] for rank in told.values())
    assert await stage.pids() == pids  # nobody was killed for that


async def test_v8_a_call_amid_a_long_forward_holds_up_nobody(stage: Stage) -> None:
    """The answer comes by the caller's clock; the request goes on, and is not lost."""
    fault = stage.fault("step", "hang")
    making = asyncio.create_task(stage.make(30))

    async def runs() -> bool:
        return bool((await stage.seen())["in_flight"])

    await eventually(runs)
    silent = await stage.ranks(timeout_s=SHORT_S)
    assert silent["1"]["error"]["type"] == "RankSilent"
    assert not making.done()
    fault.unlink()
    assert picture_of(await making) == 33
    ranks = await stage.ranks()
    assert all(rank["ok"] and not rank["value"]["tested"] for rank in ranks.values())


@pytest.mark.parametrize(
    ("what", "how"), [("exit", "exited with code 5"), ("kill", "died of SIGKILL")]
)
async def test_v3_v9_f22_a_rank_that_ends_is_told_at_once(
    stage: Stage, what: str, how: str
) -> None:
    pids = await stage.pids()
    stage.fault("health", what)
    ranks = await stage.ranks()
    error = ranks["1"]["error"]
    assert (ranks["1"]["pid"], error["type"], error["message"]) == (pids[1], "RankDied", how)
    assert not any(ranks[other]["ok"] for other in "0123" if ranks[other]["error"])

    async def back() -> bool:
        return await stage.is_ready() and not set(pids) & set(await stage.pids())

    await eventually(back)
    assert (await stage.rpc())["ok"]
    assert picture_of(await stage.make(40)) == 43


async def test_concurrent_requests_and_control_calls_never_swap_results(stage: Stage) -> None:
    """Through one socket to each rank, and one to the orchestrator."""
    making = [asyncio.create_task(stage.make(seed)) for seed in range(120, 128)]
    methods = ["health", "list_loras"] * 4
    asking = [asyncio.create_task(stage.rpc(method)) for method in methods]
    for method, told in zip(methods, await asyncio.gather(*asking), strict=True):
        assert (told["ok"], told["method"]) == (True, method)
        ranks = told["instances"][NAME]["ranks"].values()
        kind = {"health": "health", "list_loras": "loras"}[method]
        assert [rank["value"]["type"] for rank in ranks] == [kind] * RANKS
    replies = await asyncio.gather(*making)
    assert [picture_of(reply) for reply in replies] == [seed + 3 for seed in range(120, 128)]


async def test_an_instance_that_dies_is_answered_for_at_once(stage: Stage, tmp_path: Path) -> None:
    """Results of instances are combined by name."""
    async with started(stage.control, tmp_path, "monolithic-1", ranks=1) as other:
        assert isinstance(other, LeaderProcess)
        (tmp_path / "health.0").write_text("hang")
        calling = asyncio.create_task(stage.rpc(target="monolithic"))

        async def hangs() -> bool:
            return (tmp_path / "health.hangs").exists()

        await eventually(hangs)
        other.process.kill()
        told = await calling
    assert list(told["instances"]) == [NAME, "monolithic-1"]
    assert told["instances"][NAME]["ok"]
    assert not told["instances"]["monolithic-1"]["ok"]
    assert told["instances"]["monolithic-1"]["error"]["type"] == "InstanceLost"
    assert not told["ok"]


# ---------------------------------------------------------------- adapters


async def loaded(stage: Stage) -> list[list[str]]:
    """The names of the adapters of each rank."""
    ranks = await stage.ranks("list_loras")
    return [[each["name"] for each in rank["value"]["loras"]] for rank in ranks.values()]


async def load(stage: Stage, name: str = "a", **fields: Any) -> dict[str, Any]:
    args = {"name": name, "path": f"/loras/{name}"}
    return await stage.rpc("load_lora", target="monolithic", args=args, **fields)


async def unload(stage: Stage, name: str = "a", **fields: Any) -> dict[str, Any]:
    return await stage.rpc("unload_lora", target="monolithic", args={"name": name}, **fields)


async def offered(stage: Stage, name: str = "a") -> bool:
    """Whether requests may have it on."""
    body = {"prompt": "a star", "seed": 50, "loras": [{"name": name}]}
    reply = await stage.client.post("/v1/images/generations", json=body)
    if reply.status_code == 400:
        assert reply.json()["error"]["param"] == "loras"
        return False
    assert picture_of(reply) == 53
    return True


async def test_v6_an_adapter_is_loaded_by_every_rank_and_unloaded_again(stage: Stage) -> None:
    assert not await offered(stage)
    told = await load(stage)
    assert (told["ok"], told["undone"]) == (True, None)
    (instance,) = told["instances"].values()
    values = [rank["value"] for rank in instance["ranks"].values()]
    assert [value["lora"]["name"] for value in values] == ["a"] * RANKS
    assert await loaded(stage) == [["a"]] * RANKS
    assert await offered(stage)
    assert (await unload(stage))["ok"]
    assert await loaded(stage) == [[]] * RANKS
    assert not await offered(stage)


async def test_v1_f21_an_adapter_that_one_rank_cannot_load_is_unloaded_by_the_others(
    stage: Stage,
) -> None:
    fault = stage.fault("load_lora", "raise")
    told = await load(stage)
    fault.unlink()
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    assert ranks["1"]["error"]["type"] == "ValueError"
    assert "in misbehave" in ranks["1"]["error"]["traceback"]
    assert (told["ok"], told["undone"]) == (False, True)
    assert await loaded(stage) == [[]] * RANKS
    assert not await offered(stage)


async def test_v3_v4_an_adapter_that_a_silent_rank_loads_later_is_unloaded_all_the_same(
    stage: Stage,
) -> None:
    pids = await stage.pids()
    fault = stage.fault("load_lora", "hang")
    told = await load(stage, timeout_s=SHORT_S)
    assert not told["ok"]
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    assert ranks["1"]["error"]["type"] == "RankSilent"
    fault.unlink()

    async def undone() -> bool:
        return await loaded(stage) == [[]] * RANKS

    await eventually(undone)
    assert not await offered(stage)
    assert await stage.pids() == pids


async def test_f21_an_adapter_that_is_another_file_at_one_rank_is_unloaded_by_all(
    stage: Stage,
) -> None:
    """As of ranks on several hosts whose folders differ."""
    fault = stage.fault("load_lora", "differs")
    told = await load(stage)
    fault.unlink()
    errors = [rank["error"]["type"] for rank in told["instances"][NAME]["ranks"].values()]
    assert (told["ok"], told["undone"], errors) == (False, True, ["FilesDiffer"] * RANKS)
    assert await loaded(stage) == [[]] * RANKS
    assert not await offered(stage)


@pytest.mark.parametrize("what", ["exit", "kill"])
async def test_v3_f21_f22_a_rank_that_ends_while_it_loads_leaves_nothing_loaded(
    stage: Stage, what: str
) -> None:
    pids = await stage.pids()
    stage.fault("load_lora", what)
    told = await load(stage)
    assert not told["ok"]
    assert told["instances"][NAME]["ranks"]["1"]["error"]["type"] == "RankDied"

    async def back() -> bool:
        return await stage.is_ready() and not set(pids) & set(await stage.pids())

    await eventually(back)
    assert await loaded(stage) == [[]] * RANKS
    assert not await offered(stage)


async def test_an_adapter_that_one_rank_cannot_unload_stays_with_all(stage: Stage) -> None:
    assert (await load(stage))["ok"]
    fault = stage.fault("unload_lora", "raise")
    told = await unload(stage)
    fault.unlink()
    assert (told["ok"], told["undone"]) == (False, True)
    assert await loaded(stage) == [["a"]] * RANKS
    assert await offered(stage)
    assert (await unload(stage))["ok"]


async def test_new_ranks_come_with_the_adapters_of_the_old_ones(stage: Stage) -> None:
    assert (await load(stage))["ok"]
    pids = await stage.pids()
    stage.fault("health", "kill")
    assert not (await stage.rpc())["ok"]

    async def back() -> bool:
        return await stage.is_ready() and not set(pids) & set(await stage.pids())

    await eventually(back)
    assert await loaded(stage) == [["a"]] * RANKS
    assert await offered(stage)


async def test_a_new_instance_is_given_what_the_others_have(stage: Stage, tmp_path: Path) -> None:
    """`a` is still loaded. And what one instance cannot load, no instance keeps."""
    async with started(stage.control, tmp_path, "monolithic-1", ranks=2):

        async def ready() -> bool:
            told = (await stage.client.get("/v1/cluster")).json()["roles"]["monolithic"]
            return [each["state"] for each in told] == ["ready", "ready"]

        await eventually(ready)
        told = await stage.rpc("list_loras", target="monolithic-1")
        ranks = told["instances"]["monolithic-1"]["ranks"].values()
        assert [[x["name"] for x in rank["value"]["loras"]] for rank in ranks] == [["a"], ["a"]]
        fault = tmp_path / "load_lora.1"
        fault.write_text("raise")
        told = await load(stage, "b")
        fault.unlink()
        assert (told["ok"], told["undone"]) == (False, True)
        assert told["instances"][NAME]["ok"]
        assert not told["instances"]["monolithic-1"]["ok"]
        assert await loaded(stage) == [["a"]] * RANKS
        body = {"target": NAME, "method": "unload_lora", "args": {"name": "a"}}
        reply = await stage.client.post("/v1/cluster/rpc", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_alone")
    assert (await unload(stage))["ok"]


async def test_f21_ranks_that_cannot_go_back_begin_anew(stage: Stage) -> None:
    """Divergent: the adapter is loaded by some, and cannot be unloaded by one of them."""
    pids = await stage.pids()
    stage.fault("load_lora", "raise", rank=2)
    # the first unload_lora is that of the clean slate before the loading
    stage.fault("unload_lora", "second", rank=1)
    told = await load(stage)
    assert not told["ok"]
    for name in ("load_lora.2", "unload_lora.1"):
        (stage.folder / name).unlink(missing_ok=True)

    async def back() -> bool:
        return await stage.is_ready() and not set(pids) & set(await stage.pids())

    await eventually(back)
    assert await loaded(stage) == [[]] * RANKS
    assert picture_of(await stage.make(60)) == 63


async def test_a_request_that_has_an_adapter_on_is_waited_for(stage: Stage) -> None:
    assert (await load(stage))["ok"]
    fault = stage.fault("step", "hang")
    making = asyncio.create_task(stage.make(70))  # has it on, as it is loaded

    async def runs() -> bool:
        return bool((await stage.seen())["in_flight"])

    await eventually(runs)
    told = await unload(stage, timeout_s=0.5)
    assert not told["ok"]
    error = told["instances"][NAME]["error"]
    assert (error["type"], error["message"]) == (
        "NotBegun",
        "nothing was changed: 1 requests have a on",
    )
    unloading = asyncio.create_task(unload(stage))
    fault.unlink()
    assert (await unloading)["ok"]
    assert picture_of(await making) == 73


# ---------------------------------------------------------------- sleep


async def sleep(stage: Stage, level: int = 1, **fields: Any) -> dict[str, Any]:
    return await stage.rpc("sleep", args={"level": level}, **fields)


@pytest.mark.parametrize("level", [1, 2])
async def test_v6_an_instance_sleeps_until_it_is_woken(stage: Stage, level: int) -> None:
    told = await sleep(stage, level)
    assert (told["ok"], told["undone"], told["instances"][NAME]["state"]) == (
        True,
        None,
        "sleeping",
    )
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert (
        values
        == [{"type": "slept", "level": level, "fresh": True, "device_bytes": 0, "host_bytes": 0}]
        * RANKS
    )
    seen = await stage.seen()
    assert seen["state"] == "sleeping"
    assert [rank["state"] for rank in seen["ranks"]] == ["sleeping"] * RANKS
    refused = await stage.make(80)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert "the instances of monolithic sleep" in refused.json()["error"]["message"]
    assert (await stage.rpc())["ok"]  # `health` is answered all the same
    told = await stage.rpc("wake")
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert values == [{"type": "woken", "level": level, "device_bytes": 0}] * RANKS
    assert picture_of(await stage.make(80)) == 83


async def test_v6_who_is_awake_stays_ready_while_it_is_woken(stage: Stage) -> None:
    fault = stage.fault("wake", "hang")
    waking = asyncio.create_task(stage.rpc("wake"))

    async def asked() -> bool:
        return fault.with_suffix(".hangs").exists()

    await eventually(asked)
    assert await stage.is_ready()
    fault.unlink()
    told = await waking
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert values == [{"type": "woken", "level": 0, "device_bytes": 0}] * RANKS
    assert await stage.is_ready()


@pytest.mark.parametrize("method", ["sleep", "wake"])
async def test_v1_what_one_rank_cannot_do_is_undone_in_the_others(
    stage: Stage, method: str
) -> None:
    if method == "wake":
        assert (await sleep(stage, 2))["ok"]
    fault = stage.fault(method, "raise")
    told = await stage.rpc(method)
    fault.unlink()
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    assert (told["ok"], ranks["1"]["error"]["type"]) == (False, "ValueError")
    after = "ready" if method == "sleep" else "sleeping"

    async def settled() -> bool:
        return (await stage.seen())["state"] == after

    await eventually(settled)
    if method == "wake":
        assert (await stage.rpc("wake"))["ok"]
    assert picture_of(await stage.make(90)) == 93


async def test_v3_new_ranks_sleep_as_those_before_them(stage: Stage) -> None:
    assert (await sleep(stage, 2))["ok"]
    pids = await stage.pids()
    stage.fault("health", "kill")
    assert not (await stage.rpc())["ok"]

    async def back() -> bool:
        seen = await stage.seen()
        return seen["state"] == "sleeping" and not set(pids) & set(await stage.pids())

    await eventually(back)
    told = await stage.rpc("wake")
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert [value["level"] for value in values] == [2] * RANKS
    assert picture_of(await stage.make(100)) == 103


async def test_v4_a_rank_that_falls_asleep_too_late_is_woken_with_the_others(stage: Stage) -> None:
    fault = stage.fault("sleep", "hang")
    told = await sleep(stage, timeout_s=SHORT_S)
    assert told["instances"][NAME]["ranks"]["1"]["error"]["type"] == "RankSilent"
    fault.unlink()
    await eventually(stage.is_ready)
    assert picture_of(await stage.make(110)) == 113


# ---------------------------------------------------------------- weights


async def update(stage: Stage, path: str = "/w1", **fields: Any) -> dict[str, Any]:
    return await stage.rpc("update_weights", target="monolithic", args={"path": path}, **fields)


async def test_v1_weights_that_one_rank_cannot_read_are_put_back_in_the_others(
    stage: Stage,
) -> None:
    fault = stage.fault("update_weights", "raise")
    told = await update(stage)
    fault.unlink()
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]
    assert "in misbehave" in ranks["1"]["error"]["traceback"]
    assert (told["ok"], told["undone"]) == (False, True)
    assert picture_of(await stage.make(120)) == 123


async def test_v3_new_ranks_compute_with_what_those_before_them_had(stage: Stage) -> None:
    told = await update(stage)
    assert (told["ok"], told["undone"]) == (True, None)
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert [value["weights"][0]["digest"] for value in values] == ["of /w1"] * RANKS
    assert picture_of(await stage.make(130)) == 233
    pids = await stage.pids()
    stage.fault("health", "kill")
    assert not (await stage.rpc())["ok"]

    async def back() -> bool:
        return await stage.is_ready() and not set(pids) & set(await stage.pids())

    await eventually(back)
    assert picture_of(await stage.make(131)) == 234


async def test_a_component_that_nobody_has_is_refused(stage: Stage) -> None:
    args = {"path": "/w1", "components": ["unet"]}
    body = {"target": "all", "method": "update_weights", "args": args}
    reply = await stage.client.post("/v1/cluster/rpc", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unknown_component")
    assert "computes with ['net']" in reply.json()["error"]["message"]


# ---------------------------------------------------------------- profiles


async def test_every_rank_records_for_a_while(stage: Stage) -> None:
    told = await stage.rpc("profile", args={"seconds": 0.05})
    values = [rank["value"] for rank in told["instances"][NAME]["ranks"].values()]
    assert [value["file"] for value in values] == [f"trace.{rank}" for rank in range(RANKS)]
    assert not any(value["recording"] for value in values)
    told = await stage.rpc("profile", args={"seconds": 5.0}, timeout_s=5.0)
    assert told["instances"][NAME]["ranks"]["0"]["error"]["type"] == "NotBegun"


async def test_v1_what_one_rank_cannot_record_no_rank_does(stage: Stage) -> None:
    fault = stage.fault("profile", "raise")
    told = await stage.rpc("profile", args={"action": "start"})
    fault.unlink()
    ranks = told["instances"][NAME]["ranks"]
    assert [rank["ok"] for rank in ranks.values()] == [True, False, True, True]

    async def recorded() -> bool:
        return (await stage.rpc("profile", args={"seconds": 0.05}))["ok"]

    await eventually(recorded)


# ---------------------------------------------------------------- all of them


async def test_t14_what_peers_ignore_is_done_by_every_rank(stage: Stage) -> None:
    """LoRA, sleep, weights, statistics and profiles, each with what every rank says of it."""
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("load_lora", {"name": "t14", "path": "/t14", "scale": 0}, "lora_loaded"),
        ("list_loras", {}, "loras"),
        ("unload_lora", {"name": "t14"}, "lora_unloaded"),
        ("update_weights", {"path": "/t14"}, "weights_updated"),
        ("sleep", {"level": 1}, "slept"),
        ("wake", {}, "woken"),
        ("health", {}, "health"),
        ("profile", {"seconds": 0.05}, "profiled"),
    ]
    for method, args, type in asked:
        told = await stage.ranks(method, args=args, target="monolithic")
        assert [rank["ok"] for rank in told.values()] == [True] * RANKS, method
        assert {rank["value"]["type"] for rank in told.values()} == {type}


async def test_t14_progress_moves_and_a_job_can_be_cancelled_in_the_middle(stage: Stage) -> None:
    body = {"prompt": "a star", "size": "auto", "num_inference_steps": 60}
    made = (await stage.client.post("/v1/jobs", json=body)).json()
    steps = []
    async with stage.client.stream("GET", f"/v1/jobs/{made['id']}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("data: ") and "progress" in (told := json.loads(line[6:])):
                steps.append((told["progress"] or {}).get("step", 0))
    assert sorted(steps) == steps
    assert len(set(steps)) > 2  # not from 0 to the end
    fault = stage.fault("step", "hang")
    made = (await stage.client.post("/v1/jobs", json=body)).json()

    async def hangs() -> bool:
        return fault.with_suffix(".hangs").exists()

    await eventually(hangs)
    told = (await stage.client.delete(f"/v1/jobs/{made['id']}")).json()
    assert told["status"] == "cancelled"
    fault.unlink()

    async def free() -> bool:
        return not (await stage.seen())["in_flight"]

    await eventually(free)
