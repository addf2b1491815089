"""Idempotency-Key: the same request twice is done once, whether as a job or as a picture."""

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from orchestrator.api_keys import line_of, new_key
from orchestrator.http import HttpOptions
from orchestrator.http.request import sent
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import MODEL, Door, picture, soon
from tests.support.models import EDITOR, VIDEO
from tests.transfer.test_pictures import RED, saved
from transfer.messages import ErrorInfo, Parameter

PICTURE, OTHER = saved(RED), saved(Image.new("RGB", (4, 4)))
JOBS, IMAGES = "/v1/jobs", "/v1/images/generations"
BODY = {"prompt": "a cat"}


async def post(
    client: httpx.AsyncClient, path: str, key: str | None = "k1", **fields: object
) -> httpx.Response:
    headers = {} if key is None else {"idempotency-key": key}
    return await client.post(path, json={**BODY, **fields}, headers=headers)


async def test_the_same_key_is_the_same_job() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    async with door.client() as client:
        first = await post(client, JOBS)
        await door.jobs.step("job_0", "encoder")
        second = await post(client, JOBS)
        other = await post(client, JOBS, key="k2")
        without = [await post(client, JOBS, key=None) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert (first.json()["status"], second.json()["status"]) == ("queued", "running")
    assert first.json()["seed"] == second.json()["seed"]  # drawn once
    ids = [reply.json()["id"] for reply in (first, second, other, *without)]
    assert ids == ["job_0", "job_0", "job_1", "job_2", "job_3"]


@pytest.mark.parametrize(
    ("content", "same"),
    [
        (b'{"seed":1,"prompt":"a cat"}', True),
        (b'{ "prompt" : "a cat", "seed": 1, "n": null }', True),
        (b'{"prompt":"a \\u0063at","seed":1}', True),
        (b'{"prompt":"a cat","seed":2}', False),
        (b'{"prompt":"a cat"}', False),
    ],
)
async def test_bodies_are_compared_by_what_they_mean(content: bytes, same: bool) -> None:
    door = Door()
    async with door.client() as client:
        await post(client, JOBS, seed=1)
        reply = await client.post(JOBS, content=content, headers={"idempotency-key": "k1"})
    if same:
        assert (reply.status_code, reply.json()["id"]) == (202, "job_0")
        return
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (422, "idempotency_key_reused")
    assert error["param"] == "Idempotency-Key"
    assert len(door.jobs.jobs) == 1


@pytest.mark.parametrize(("seed", "status"), [(1, 202), (2, 422)])
async def test_large_bodies_are_compared_by_their_fields(
    seed: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "LARGE", 10)
    content = b'{ "seed" : %d, "n": null, "prompt": "a cat" }' % seed
    async with Door().client() as client:
        await post(client, JOBS, seed=1)
        reply = await client.post(JOBS, content=content, headers={"idempotency-key": "k1"})
    assert reply.status_code == status


async def test_a_key_belongs_to_one_address() -> None:
    async with Door().client() as client:
        assert (await post(client, JOBS)).status_code == 202
        assert (await post(client, IMAGES)).status_code == 422


@pytest.mark.parametrize("key", ["", "k" * 256, "\x7f", "\xe9"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    door = Door()
    async with door.client() as client:
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        for path in (JOBS, IMAGES):
            reply = await client.post(path, json=BODY, headers=headers)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Idempotency-Key")
    assert door.jobs.jobs == {}


async def test_the_job_is_found_while_no_role_is_there() -> None:
    """After a restart of the orchestrator its clients come back sooner than the roles may."""
    door = Door()
    async with door.client() as client:
        await post(client, JOBS)
        door.service.served, door.service.lacking = [], ["encoder"]
        assert (await post(client, JOBS)).json()["id"] == "job_0"
        assert (await post(client, JOBS, key="new")).status_code == 503


async def test_two_callers_may_draw_the_same_key(tmp_path: Path) -> None:
    mine, theirs = new_key(), new_key()
    file = tmp_path / "keys"
    file.write_text(f"{line_of(mine, 'me')}\n{line_of(theirs)}\n")
    door = Door(HttpOptions(api_keys=str(file)))
    async with door.client() as client:
        ids = []
        for key in (mine, theirs, mine):
            client.headers["authorization"] = f"Bearer {key}"
            ids.append((await post(client, JOBS)).json()["id"])
    assert ids == ["job_0", "job_1", "job_0"]
    assert all(len(key) <= 255 for key in door.jobs.keys)


def everything_but_the_id(reply: httpx.Response) -> tuple[Any, ...]:
    headers = {k: v for k, v in reply.headers.items() if k not in ("x-request-id", "date")}
    return reply.status_code, headers, reply.content


async def test_a_picture_with_a_key_is_made_once_and_given_twice() -> None:
    door = Door()
    async with door.client() as client:
        first, second = [await post(client, IMAGES, n=2) for _ in range(2)]
    assert everything_but_the_id(first) == everything_but_the_id(second)
    seed = int(first.headers["x-triptych-seed"])
    made = [base64.b64decode(item["b64_json"]) for item in first.json()["data"]]
    assert made == [picture(seed), picture(seed + 1)]
    assert first.json()["size"] == "128x96"
    assert first.json()["created"] == 1000
    assert '"total_s":0.75' in first.headers["x-triptych-timings"]
    assert first.headers["x-triptych-job"] == "job_0"
    assert len(door.jobs.jobs) == 1
    assert door.service.asked == []


async def test_without_a_key_nothing_is_a_job() -> None:
    door = Door()
    async with door.client() as client:
        assert (await post(client, IMAGES, key=None)).status_code == 200
    assert door.jobs.jobs == {}
    assert len(door.service.asked) == 1


async def test_links_of_a_picture_with_a_key_are_those_of_its_job() -> None:
    door = Door()
    async with door.client() as client:
        replies = [await post(client, IMAGES, n=2, response_format="url") for _ in range(2)]
        assert replies[0].json() == replies[1].json()
        urls = [item["url"] for item in replies[0].json()["data"]]
        seed = int(replies[0].headers["x-triptych-seed"])
        assert [(await client.get(url)).content for url in urls] == [
            picture(seed),
            picture(seed + 1),
        ]


async def test_requests_at_the_same_time_wait_for_one_job() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    async with door.client() as client:
        posting = [asyncio.create_task(post(client, IMAGES)) for _ in range(5)]
        await soon(lambda: "job_0" in door.jobs.jobs)
        await door.jobs.complete("job_0")
        replies = await asyncio.gather(*posting)
    assert {reply.content for reply in replies} == {replies[0].content}
    assert replies[0].status_code == 200
    assert len(door.jobs.jobs) == 1


async def test_the_job_goes_on_when_its_client_has_gone() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    async with door.listening() as url, httpx.AsyncClient(base_url=url) as client:
        posting = asyncio.create_task(post(client, IMAGES))
        await soon(lambda: "job_0" in door.jobs.jobs)
        posting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await posting
        async with asyncio.timeout(10):
            while f'route="{IMAGES}",status="499"}} 1.0' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
        assert not door.jobs.jobs["job_0"].over
        again = asyncio.create_task(post(client, IMAGES))
        await door.jobs.complete("job_0")
        assert (await again).status_code == 200
    assert len(door.jobs.jobs) == 1


async def test_a_failure_is_the_reply_of_every_retry() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    async with door.client() as client:
        posting = asyncio.create_task(post(client, IMAGES))
        await soon(lambda: "job_0" in door.jobs.jobs)
        lost = ErrorInfo(kind="instance_lost", message="it is gone", instance="d0")
        await door.jobs.fail("job_0", lost)
        for reply in (await posting, await post(client, IMAGES)):
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "instance_lost")
            assert reply.headers["x-should-retry"] == "false"
            assert "retry-after" not in reply.headers


async def test_a_cancelled_job_is_told_to_whoever_waits_for_it() -> None:
    door = Door(jobs=FakeJobs(at_once=False))
    async with door.client() as client:
        posting = asyncio.create_task(post(client, IMAGES))
        await soon(lambda: "job_0" in door.jobs.jobs)
        await client.delete("/v1/jobs/job_0")
        reply = await posting
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "job_cancelled")


RETRIED = {
    "/v1/images/edits": {"data": {"prompt": "a"}, "files": {"image": PICTURE}},
    "/v1/images/variations": {"files": {"image": PICTURE}},
    "/v1/jobs": {"data": {"prompt": "a", "padding_mask_crop": "4"}, "files": {"image": PICTURE}},
    IMAGES: {"json": {"prompt": "a", "padding_mask_crop": 4}},
}


@pytest.mark.parametrize("path", RETRIED)
async def test_a_retry_is_known_whatever_models_have_come_or_gone(path: str) -> None:
    """Of one that names no model: that of its job is meant, and need not be there any more."""
    own = Parameter(name="padding_mask_crop", type="int", required=False)
    door = Door(model=replace(EDITOR, parameters=[*EDITOR.parameters, own]))
    key: Any = {"headers": {"idempotency-key": "k"}}
    async with door.client() as client:
        first = await client.post(path, **RETRIED[path], **key)
        door.service.served = [*door.service.served, MODEL]
        second = await client.post(path, **RETRIED[path], **key)
        assert (await client.post(path, **RETRIED[path])).status_code == 400  # which model?
        door.service.served, door.service.lacking = [], ["encoder"]
        third = await client.post(path, **RETRIED[path], **key)
    assert first.status_code in (200, 202)
    assert first.content == second.content == third.content
    assert len(door.jobs.jobs) == 1


async def test_a_retried_remix_is_known_although_the_video_is_gone() -> None:
    door = Door(model=VIDEO)
    key = {"idempotency-key": "k"}
    async with door.client() as client:
        video = (await client.post("/v1/videos", json={"prompt": "a"})).json()["id"]
        remix = f"/v1/videos/{video}/remix"
        first = await client.post(remix, json={"prompt": "b"}, headers=key)
        await client.delete(f"/v1/videos/{video}")
        again = await client.post(remix, json={"prompt": "b"}, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize(
    ("files", "same"),
    [
        ([("image", PICTURE), ("image", OTHER)], True),
        ([("image[]", PICTURE), ("image[]", OTHER)], True),
        ([("image", OTHER), ("image", PICTURE)], False),
        ([("image", PICTURE)], False),
    ],
)
async def test_forms_are_compared_by_their_files(
    files: list[tuple[str, bytes]], same: bool
) -> None:
    key: Any = {"headers": {"idempotency-key": "k"}, "data": {"prompt": "a"}}
    async with Door(model=EDITOR).client() as client:
        path = "/v1/images/edits"
        await client.post(path, files=[("image", PICTURE), ("image", OTHER)], **key)
        assert (await client.post(path, files=files, **key)).status_code == (200 if same else 422)
