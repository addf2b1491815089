"""/v1/jobs against a double of the jobs: asking, looking, listing, cancelling, the files."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.http import HttpOptions
from orchestrator.jobs.model import JournalDown
from orchestrator.service import Busy, NotReady
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door, picture
from transfer.messages import ErrorInfo

BODY = {"prompt": "a cat", "seed": 7}


async def call(door: Door, method: str, path: str, **arguments: Any) -> httpx.Response:
    async with door.client() as client:
        return await client.request(method, path, **arguments)


async def create(door: Door, **fields: object) -> dict[str, Any]:
    reply = await call(door, "POST", "/v1/jobs", json={**BODY, **fields})
    assert reply.status_code == 202, reply.text
    page: dict[str, Any] = reply.json()
    return page


def error_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


async def test_a_job_is_accepted_with_all_that_clients_expect() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    reply = await call(door, "POST", "/v1/jobs", json={**BODY, "type": "image", "n": 2})
    assert reply.status_code == 202
    assert reply.headers["location"] == "/v1/jobs/job_0"
    assert reply.json() == {
        "id": "job_0",
        "object": "job",
        "type": "image",
        "status": "queued",
        "created_at": 1000,
        "finished_at": None,
        "position": 0,
        "progress": {"stage": "queued", "step": 0, "steps": 0},
        "attempts": 0,
        "timings": None,
        "error": None,
        "seed": 7,
        "output_format": "png",
        "files": [],
        "model": "demo",
    }


async def test_the_jobs_are_asked_what_the_client_asked() -> None:
    door = Door(HttpOptions(request_timeout_s=33))
    await create(door, n=2, num_inference_steps=4, size="64x64", exact=True, output_format="webp")
    spec = door.jobs.specs["job_0"]
    assert [inputs.seed for inputs in spec.inputs] == [7, 8]
    assert spec.inputs[0].params["num_inference_steps"] == 4
    assert spec.inputs[0].exact
    assert (spec.deadline_s, spec.described.output_format) == (33, "webp")
    assert door.service.asked == []  # they run as jobs, and not at the door


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"type": "sculpture"}, 400, "type"),
        ({"type": "video"}, 422, "type"),
        ({"sied": 1}, 400, "sied"),
        ({"size": "99999x16"}, 400, "size"),
        ({"model": "other"}, 404, "model"),
        ({"strength": 0.5}, 422, "strength"),
    ],
)
async def test_what_a_picture_may_not_ask_a_job_may_not(
    fields: dict[str, object], status: int, param: str
) -> None:
    door = Door()
    reply = await call(door, "POST", "/v1/jobs", json={**BODY, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert door.jobs.jobs == {}


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Busy(3.2), 429, "queue_full"),
        (NotReady(["decoder"]), 503, "not_ready"),
        (JournalDown("no space left on device"), 503, "journal_down"),
    ],
)
async def test_a_refused_job_says_when_to_come_again(
    refusal: Exception, status: int, code: str
) -> None:
    door = Door()
    door.jobs.refusal = refusal
    reply = await call(door, "POST", "/v1/jobs", json=BODY)
    assert error_of(reply) == (status, code)
    assert int(reply.headers["retry-after"]) >= 1
    if code == "journal_down":
        assert "no space left on device" in reply.json()["error"]["message"]


async def test_before_any_role_there_is_no_job() -> None:
    door = Door(model=None)
    assert error_of(await call(door, "POST", "/v1/jobs", json=BODY)) == (503, "not_ready")


async def test_a_job_is_shown_as_it_moves() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    await create(door, n=2)
    await door.jobs.step("job_0", "denoiser", 3, 8)
    page = (await call(door, "GET", "/v1/jobs/job_0")).json()
    assert (page["status"], page["position"], page["attempts"]) == ("running", None, 1)
    assert page["progress"] == {"stage": "denoiser", "step": 3, "steps": 8}
    await door.jobs.complete("job_0")
    page = (await call(door, "GET", "/v1/jobs/job_0")).json()
    assert (page["status"], page["finished_at"]) == ("completed", 2000)
    expected = {"queue_s": 0.5, "encoder_s": 0.01, "transfer_s": 0.0, "total_s": 0.75}
    assert page["timings"] == expected
    url = "http://door/v1/jobs/job_0/content"
    file = {"kind": "image", "mime": "image/png", "bytes": 1000, "width": 128, "height": 96}
    assert page["files"] == [{"url": url, **file}, {"url": f"{url}?index=1", **file}]


async def test_links_are_those_that_clients_reach() -> None:
    door = Door(HttpOptions(public_url="https://pictures.example/"))
    page = await create(door)
    assert page["files"][0]["url"] == "https://pictures.example/v1/jobs/job_0/content"


async def test_a_failed_job_tells_where_and_why() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    await create(door)
    lost = ErrorInfo(kind="rank_died", message="exit code -9", instance="d0", rank=1)
    await door.jobs.fail("job_0", lost)
    page = (await call(door, "GET", "/v1/jobs/job_0")).json()
    assert page["status"] == "failed"
    assert page["error"] == {
        "message": "exit code -9 (instance d0, rank 1)",
        "type": "server_error",
        "param": None,
        "code": "rank_died",
    }
    reply = await call(door, "GET", "/v1/jobs/job_0/content")
    assert error_of(reply) == (500, "rank_died")
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/content"), ("HEAD", "/content")],
)
async def test_an_unknown_job_is_not_found(method: str, path: str) -> None:
    reply = await call(Door(), method, f"/v1/jobs/job_9{path}")
    assert reply.status_code == 404
    if method != "HEAD":
        assert error_of(reply) == (404, "job_not_found")


async def test_a_job_is_cancelled_once_and_for_all() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    await create(door)
    for _ in range(2):
        reply = await call(door, "DELETE", "/v1/jobs/job_0")
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    assert reply.json()["error"] is None
    assert error_of(await call(door, "GET", "/v1/jobs/job_0/content")) == (409, "job_cancelled")


async def test_a_job_that_is_over_cannot_be_cancelled() -> None:
    door = Door()
    await create(door)
    reply = await call(door, "DELETE", "/v1/jobs/job_0")
    assert (reply.status_code, reply.json()["status"]) == (200, "completed")


async def test_the_list_is_paged_from_the_newest() -> None:
    door = Door()
    for _ in range(5):
        await create(door)
    seen, after = [], ""
    while True:
        page = (await call(door, "GET", f"/v1/jobs?limit=2{after}")).json()
        assert page["object"] == "list"
        ids = [job["id"] for job in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
        seen += ids
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert seen == ["job_4", "job_3", "job_2", "job_1", "job_0"]


async def test_the_list_is_filtered_by_status() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    for _ in range(3):
        await create(door)
    await door.jobs.complete("job_1")
    page = (await call(door, "GET", "/v1/jobs?status=completed")).json()
    assert [job["id"] for job in page["data"]] == ["job_1"]
    page = (await call(door, "GET", "/v1/jobs?status=failed")).json()
    expected = {"object": "list", "data": [], "first_id": None, "last_id": None}
    assert page == {**expected, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=999999999999999999999", "limit"),
        ("status=done", "status"),
        ("after=job_9", "after"),
    ],
)
async def test_a_wrong_query_is_named(query: str, param: str) -> None:
    door = Door()
    await create(door)
    reply = await call(door, "GET", f"/v1/jobs?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("local", [True, False])
async def test_the_files_of_a_job(local: bool, tmp_path: Path) -> None:
    door = Door(jobs=FakeJobs(folder=tmp_path if local else None))
    await create(door, n=2)
    for query, seed in (("", 7), ("?index=0", 7), ("?index=1", 8)):
        reply = await call(door, "GET", f"/v1/jobs/job_0/content{query}")
        assert reply.status_code == 200
        assert reply.content == picture(seed)
        assert reply.headers["content-type"] == "image/png"
        assert reply.headers["content-length"] == "1000"
        assert reply.headers["x-content-type-options"] == "nosniff"
    head = await call(door, "HEAD", "/v1/jobs/job_0/content")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "1000"


async def test_a_part_of_a_file_on_this_machine(tmp_path: Path) -> None:
    door = Door(jobs=FakeJobs(folder=tmp_path))
    await create(door)
    path = "/v1/jobs/job_0/content"
    reply = await call(door, "GET", path, headers={"range": "bytes=100-199"})
    assert (reply.status_code, reply.content) == (206, picture(7)[100:200])
    assert reply.headers["content-range"] == "bytes 100-199/1000"
    beyond = await call(door, "GET", path, headers={"range": "bytes=5000-"})
    assert error_of(beyond) == (416, "bad_range")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("index=2", 404, "file_not_found"),
        ("index=-1", 400, "invalid_value"),
        ("index=x", 400, "invalid_value"),
    ],
)
async def test_a_file_that_the_job_does_not_have(query: str, status: int, code: str) -> None:
    door = Door()
    await create(door, n=2)
    reply = await call(door, "GET", f"/v1/jobs/job_0/content?{query}")
    assert error_of(reply) == (status, code)


async def test_a_job_that_is_not_finished_has_no_files() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    await create(door)
    for status in ("queued", "running"):
        reply = await call(door, "GET", "/v1/jobs/job_0/content")
        assert error_of(reply) == (409, "job_not_finished")
        assert status in reply.json()["error"]["message"]
        await door.jobs.step("job_0", "encoder")


@pytest.mark.parametrize("local", [True, False])
async def test_a_file_that_was_lost_is_an_error_and_not_an_empty_picture(
    local: bool, tmp_path: Path
) -> None:
    door = Door(jobs=FakeJobs(folder=tmp_path if local else None))
    await create(door)
    door.jobs.files.clear()
    for file in tmp_path.iterdir():
        file.unlink()
    reply = await call(door, "GET", "/v1/jobs/job_0/content")
    assert error_of(reply) == (503, "media_lost")
