"""API keys and the rate limit at the front door."""

from pathlib import Path

import httpx
import pytest

from orchestrator.api_keys import line_of, new_key
from orchestrator.http import HttpOptions
from orchestrator.http.doors import Doors
from orchestrator.http.errors import ApiError
from orchestrator.http.meter import Meter, Rate
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door

KEY, OTHER = new_key(), new_key()
IMAGES = "/v1/images/generations"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(f"{line_of(KEY, 'alice')}\n{line_of(OTHER, 'bob')}\n")
    return str(file)


async def get(door: Door, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with door.client() as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, "Bearer wrong", f"Bearer {KEY} x"],
    ids=["none", "empty", "scheme", "blank", "basic", "bare", "wrong", "more"],  # keys are drawn
)
async def test_without_a_valid_key_nobody_comes_in(keys: str, value: str | None) -> None:
    headers = {} if value is None else {"authorization": value}
    reply = await get(Door(HttpOptions(api_keys=keys)), "/v1/models", **headers)
    assert reply.status_code == 401
    error = reply.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/models"),
        ("GET", "/v1/cluster"),
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("POST", IMAGES),
        ("DELETE", "/v1/jobs/job_0"),
        ("GET", "/v1/jobs/job_0/content"),
        ("GET", "/v1/media/x.png"),
        ("POST", "/v1/cluster/instances/d0/drain"),
        ("DELETE", "/v1/cluster/instances/d0"),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
        ("GET", "//health"),
    ],
)
async def test_everything_but_the_probes_is_locked(keys: str, method: str, path: str) -> None:
    door = Door(HttpOptions(api_keys=keys))
    assert (await get(door, path, method)).status_code == 401
    assert door.service.left == []
    allowed = await get(door, path, method, authorization=f"Bearer {KEY}")
    assert allowed.status_code != 401


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes_need_no_key(keys: str, path: str) -> None:
    assert (await get(Door(HttpOptions(api_keys=keys)), path)).status_code == 200


async def test_the_scheme_is_read_in_any_case(keys: str) -> None:
    door = Door(HttpOptions(api_keys=keys))
    assert (await get(door, "/v1/models", authorization=f"bearer  {KEY}")).status_code == 200


async def test_a_stranger_is_refused_before_its_body_is_read(keys: str) -> None:
    door = Door(HttpOptions(api_keys=keys, max_body_bytes=10))
    async with door.client() as client:
        reply = await client.post(IMAGES, content=b"x" * 1000)
    assert reply.status_code == 401


async def test_without_a_file_everybody_comes_in() -> None:
    assert (await get(Door(), "/v1/models", authorization="Bearer any")).status_code == 200


async def post(client: httpx.AsyncClient, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return await client.post(IMAGES, json={"prompt": "a"}, headers=headers)


async def test_too_many_requests_are_told_when_to_come_again() -> None:
    door = Door(HttpOptions(rate_limit="2/hour"))
    async with door.client() as client:
        replies = [await post(client) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 200, 429]
        left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
        assert left == ["1", "0", "0"]
        assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
        assert float(replies[0].headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 1800
        error = replies[2].json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert 1700 < int(replies[2].headers["retry-after"]) <= 1800
        reading = await client.get("/v1/models")
    assert reading.status_code == 200  # costs nothing, and is not counted
    assert "x-ratelimit-limit-requests" not in reading.headers
    assert len(door.service.asked) == 2


async def test_jobs_are_counted_too() -> None:
    door = Door(HttpOptions(rate_limit="1/hour"), jobs=FakeJobs(at_once=False))
    async with door.client() as client:
        statuses = [
            (await client.post("/v1/jobs", json={"prompt": "a"})).status_code for _ in range(2)
        ]
    assert statuses == [202, 429]


async def test_every_key_has_a_rate_of_its_own(keys: str) -> None:
    door = Door(HttpOptions(rate_limit="1/hour", api_keys=keys))
    async with door.client() as client:
        statuses = [(await post(client, key)).status_code for key in (KEY, OTHER, KEY)]
        assert statuses == [200, 200, 429]
        assert (await post(client)).status_code == 401  # strangers take from nobody


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("::1", "::2", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "testclient", True),
    ],
)
async def test_without_keys_the_address_is_counted(first: str, second: str, shared: bool) -> None:
    async def app(*_: object) -> None:
        pass

    async def answered(client: str) -> bool:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [],
            "client": (client, 1),
        }
        try:
            await doors(scope, None, None)  # type: ignore[arg-type]  # nothing is read or sent
        except ApiError as refusal:
            return refusal.status != 429
        return True

    doors = Doors(app, None, Meter(Rate(1, 3600)), clock=lambda: 0.0)
    assert await answered(first)
    assert await answered(second) is not shared


@pytest.mark.parametrize(
    "options", [HttpOptions(rate_limit="often"), HttpOptions(api_keys="/no/such/file")]
)
def test_a_door_that_cannot_be_locked_is_not_opened(options: HttpOptions) -> None:
    with pytest.raises(ValueError, match=r"no rate|cannot read"):
        Door(options)
