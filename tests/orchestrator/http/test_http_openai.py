"""The unmodified `openai` package, sync and async, against the front door over a real socket."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from orchestrator.api_keys import line_of, new_key
from orchestrator.http import HttpOptions
from orchestrator.service import Busy, Completed, RequestFailed
from tests.support.front_door import Door, picture, soon
from tests.support.sdk import Clients
from transfer.messages import ErrorInfo, Inputs


@pytest.fixture(params=["sync", "async"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[Clients]:
    door = Door()
    async with door.listening() as url:
        made = Clients(door, url, request.param == "sync")
        yield made
        await made.close()


async def test_pictures_in_base64(clients: Clients) -> None:
    reply = await clients.generate(
        model="demo",
        n=2,
        size="128x96",
        quality="hd",
        style="vivid",
        user="me",
        background="auto",
        moderation="low",
        response_format="b64_json",
        output_format="png",
        extra_body={"seed": 5, "num_inference_steps": 4, "negative_prompt": "dogs", "exact": True},
    )
    assert [base64.b64decode(item.b64_json) for item in reply.data] == [picture(5), picture(6)]
    assert (reply.size, reply.quality, reply.output_format) == ("128x96", "high", "png")
    assert reply.background == "opaque"
    assert reply.usage.total_tokens == 0
    assert reply.usage.input_tokens_details.text_tokens == 0
    _, inputs = clients.door.service.asked[0]
    assert inputs.params["negative_prompt"] == "dogs"


async def test_base64_is_what_comes_without_being_asked_for(clients: Clients) -> None:
    reply = await clients.generate()
    assert reply.data[0].b64_json
    assert reply.data[0].url is None


async def test_pictures_by_link(clients: Clients) -> None:
    reply = await clients.generate(response_format="url", extra_body={"seed": 5})
    assert reply.data[0].b64_json is None
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(reply.data[0].url)).content == picture(5)


async def test_raw_replies_show_the_headers(clients: Clients) -> None:
    raw = await clients.call(
        "images.with_raw_response.generate", prompt="a", extra_body={"seed": 11}
    )
    assert raw.headers["x-triptych-seed"] == "11"
    assert json.loads(raw.headers["x-triptych-timings"])["total_s"] == 0.25
    assert raw.request_id.startswith("req_")
    assert base64.b64decode(raw.parse().data[0].b64_json) == picture(11)


async def test_the_models(clients: Clients) -> None:
    assert (await clients.call("models.retrieve", model="demo")).id == "demo"
    page: Any = await clients.call("models.list") if clients.sync else clients._async.models.list()
    ids = [m.id for m in page] if clients.sync else [m.id async for m in page]
    assert ids == ["demo"]


async def test_a_bad_field(clients: Clients) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.generate(extra_body={"steps": 4})
    assert (caught.value.param, caught.value.code) == ("steps", "unknown_field")
    assert caught.value.request_id
    with pytest.raises(openai.BadRequestError, match="b64_json"):
        await clients.generate(stream=True, response_format="url")


async def test_another_model(clients: Clients) -> None:
    with pytest.raises(openai.NotFoundError, match="`demo`"):
        await clients.generate(model="gpt-image-1")


async def test_a_field_that_the_model_does_not_take(clients: Clients) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await clients.generate(extra_body={"num_frames": 8})
    assert caught.value.param == "num_frames"


async def test_a_full_queue_is_tried_again_when_it_said(clients: Clients) -> None:
    async def busy_once(inputs: Inputs, request_id: str) -> Completed:
        if len(clients.door.service.asked) == 1:
            raise Busy(0.02)
        return await clients.door.service.make(inputs, request_id)

    clients.door.service.behave = busy_once
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await clients.generate()
    assert len(clients.door.service.asked) == 2
    assert loop.time() - started < 0.45  # 0.5 s is what the SDK waits of its own accord


async def test_a_queue_that_stays_full(clients: Clients) -> None:
    async def busy(inputs: Inputs, request_id: str) -> Completed:
        raise Busy(0.01)

    clients.door.service.behave = busy
    with pytest.raises(openai.RateLimitError):
        await clients.generate()


@pytest.mark.parametrize("kind", ["rank_died", "deadline"])
async def test_work_that_failed_is_not_done_twice(
    clients: Clients, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(inputs: Inputs, request_id: str) -> Completed:
        raise RequestFailed(ErrorInfo(kind=kind, message="no", instance="d0", rank=0))

    clients.door.service.behave = fail
    with pytest.raises(openai.InternalServerError, match="instance d0, rank 0") as caught:
        await clients.generate()
    assert caught.value.code == kind
    assert len(clients.door.service.asked) == 1


async def test_without_a_route(clients: Clients) -> None:
    clients.door.service.lacking = ["decoder"]
    with pytest.raises(openai.InternalServerError, match="decoder") as caught:
        await clients.patient_for(0).generate()
    assert caught.value.status_code == 503


KEY = {"Idempotency-Key": "one"}


async def test_a_key_makes_a_retry_the_same_picture(clients: Clients) -> None:
    first = await clients.generate(extra_headers=KEY)
    again = await clients.generate(extra_headers=KEY)
    assert first.data[0].b64_json
    assert first == again
    assert len(clients.door.jobs.jobs) == 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await clients.generate(n=2, extra_headers=KEY)
    assert caught.value.code == "idempotency_key_reused"


async def test_a_reply_that_was_lost_is_fetched_again(clients: Clients) -> None:
    """The SDK itself tries again when it has waited for too long, with the same headers."""
    clients.door.jobs.at_once = False
    with pytest.raises(openai.APITimeoutError):
        await clients.generate(extra_headers=KEY, timeout=1.0)
    assert len(clients.door.jobs.jobs) == 1
    await clients.door.jobs.complete("job_0")
    assert (await clients.generate(extra_headers=KEY)).data[0].b64_json


async def test_a_failed_job_is_not_asked_for_again(clients: Clients) -> None:
    clients.door.jobs.at_once = False
    asking = asyncio.create_task(clients.generate(extra_headers=KEY))
    await soon(lambda: "job_0" in clients.door.jobs.jobs)
    await clients.door.jobs.fail("job_0", ErrorInfo(kind="instance_lost", message="gone"))
    with pytest.raises(openai.InternalServerError) as caught:
        await asking
    assert (caught.value.status_code, caught.value.code) == (503, "instance_lost")


async def test_jobs_by_the_sdk(clients: Clients) -> None:
    clients.door.jobs.at_once = False
    job = await clients.raw("post", "/jobs", body={"prompt": "a", "seed": 3})
    assert (job["object"], job["status"]) == ("job", "queued")
    with pytest.raises(openai.ConflictError) as caught:
        await clients.raw("get", f"/jobs/{job['id']}/content")
    assert caught.value.code == "job_not_finished"
    assert [each["id"] for each in (await clients.raw("get", "/jobs"))["data"]] == [job["id"]]
    assert (await clients.raw("delete", f"/jobs/{job['id']}"))["status"] == "cancelled"
    with pytest.raises(openai.NotFoundError):
        await clients.raw("get", "/jobs/job_9")


async def test_the_sdks_key_opens_a_locked_door(tmp_path: Path) -> None:
    key = new_key()
    file = tmp_path / "keys"
    file.write_text(line_of(key))
    door = Door(HttpOptions(api_keys=str(file), rate_limit="2/hour"))
    async with door.listening() as url:
        base_url = f"{url}/v1"
        stranger = openai.AsyncOpenAI(api_key="wrong", base_url=base_url)
        client = openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0)
        async with stranger, client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await stranger.images.generate(prompt="a")
            assert caught.value.code == "invalid_api_key"
            for _ in range(2):
                assert await client.images.generate(prompt="a")
            with pytest.raises(openai.RateLimitError) as refused:
                await client.images.generate(prompt="a")
            assert refused.value.code == "rate_limit_exceeded"


async def test_giving_up_cancels() -> None:
    door = Door()

    async def forever(inputs: Inputs, request_id: str) -> Completed:
        await asyncio.Event().wait()
        raise AssertionError

    door.service.behave = forever
    async with door.listening() as url:
        client = openai.AsyncOpenAI(api_key="unused", base_url=f"{url}/v1", max_retries=0)
        with pytest.raises(openai.APITimeoutError):
            await client.images.generate(prompt="a", timeout=0.1)
        await soon(lambda: len(door.service.cancelled) == 1)
        await client.close()
