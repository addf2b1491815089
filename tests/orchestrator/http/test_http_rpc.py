"""`POST /v1/cluster/rpc`: what it asks for, what it refuses, and how it tells of every rank."""

from typing import Any

import httpx
import pytest

from orchestrator.core.commands import InstanceAnswer
from orchestrator.operator import TooManyQuestions, UnknownTarget
from tests.support.front_door import Door
from transfer.actions import Health, HealthReport
from transfer.results import PoolResult, RankError, RankResult

REPORT = HealthReport("cpu", 1.5, False, 2, 1 << 20)
FINE = RankResult(0, 100, True, REPORT, None, 0.25, "here")
RAISED = RankError("raised", "ValueError", "no", "Traceback …")


async def post(door: Door, body: Any) -> httpx.Response:
    async with door.client() as client:
        return await client.post("/v1/cluster/rpc", json=body)


async def refused(body: Any, status: int = 400, door: Door | None = None) -> dict[str, Any]:
    door = door or Door()
    reply = await post(door, body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)


async def test_every_rank_is_told_of() -> None:
    door = Door()
    bad = RankResult[HealthReport](1, 101, False, None, RAISED, 0.5, "there")
    door.service.operator.told = {"d0": InstanceAnswer("ready", PoolResult((FINE, bad)))}
    reply = await post(door, {"target": "denoiser", "method": "health", "timeout_s": 5})
    assert reply.status_code == 200
    assert door.service.operator.asked == [("denoiser", Health(), 5.0)]
    assert reply.json() == {
        "ok": False,
        "method": "health",
        "undone": None,
        "instances": {
            "d0": {
                "ok": False,
                "state": "ready",
                "error": None,
                "ranks": {
                    "0": {
                        "ok": True,
                        "value": {
                            "type": "health",
                            "device": "cpu",
                            "computed_s": 1.5,
                            "tested": False,
                            "requests": 2,
                            "host_bytes": 1 << 20,
                            "device_bytes": None,
                            "device_total_bytes": None,
                        },
                        "error": None,
                        "pid": 100,
                        "host": "here",
                        "seconds": 0.25,
                    },
                    "1": {
                        "ok": False,
                        "value": None,
                        "error": {
                            "type": "ValueError",
                            "message": "no",
                            "traceback": "Traceback …",
                        },
                        "pid": 101,
                        "host": "there",
                        "seconds": 0.5,
                    },
                },
            }
        },
    }


async def test_what_was_not_answered_says_so() -> None:
    door = Door()
    lost = InstanceAnswer("failed", PoolResult(()), RankError("died", "InstanceLost", "it is out"))
    fine = InstanceAnswer("ready", PoolResult((FINE,)))
    door.service.operator.told = {"d0": fine, "d1": lost}
    told = (await post(door, {"target": "denoiser", "method": "health"})).json()
    assert not told["ok"]
    assert told["instances"]["d0"]["ok"]
    assert told["instances"]["d1"]["error"]["type"] == "InstanceLost"
    assert door.service.operator.asked[0][2] == 30.0


async def test_an_unknown_method_is_told_which_there_are() -> None:
    error = await refused({"target": "denoiser", "method": "restart"})
    assert (error["param"], error["code"]) == ("method", "unknown_method")
    assert "there is no 'restart'; there are health" in error["message"]


async def test_an_unknown_target_is_told_who_there_is() -> None:
    door = Door()
    known = {"encoder": ["e0"], "denoiser": ["d0", "d1"]}
    door.service.operator.told = UnknownTarget("d7", known)  # type: ignore[arg-type]
    error = await refused({"target": "d7", "method": "health"}, 404, door)
    assert (error["param"], error["code"]) == ("target", "target_not_found")
    assert error["message"].endswith("'d7'; there are encoder: e0; denoiser: d0, d1")


async def test_too_many_at_once_are_refused() -> None:
    door = Door()
    door.service.operator.told = TooManyQuestions()
    error = await refused({"target": "d0", "method": "health"}, 429, door)
    assert error["code"] == "too_many_calls"


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"args": {"level": 1}}, "args", "there is no 'level'; health takes none"),
        ({"args": {"type": "health"}}, "args", "there is no 'type'"),
        ({"args": [1]}, "args", "object"),
        ({"timeout_s": 0}, "timeout_s", "> 0"),
        ({"timeout_s": 1e9}, "timeout_s", "<= 3600"),
        ({"timeout_s": "soon"}, "timeout_s", "float"),
        ({"target": None}, "target", "str"),
        ({"deadline": 3}, "deadline", "there is no field"),
    ],
)
async def test_wrong_fields_are_named(changes: dict[str, Any], param: str, words: str) -> None:
    error = await refused({"target": "d0", "method": "health", **changes})
    assert error["param"] == param
    assert words in error["message"]


async def test_what_is_missing_is_named() -> None:
    assert (await refused({"method": "health"}))["param"] == "target"
    assert (await refused({"target": "d0"}))["param"] == "method"
