"""POST /v1/images/generations against a double of the service."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from orchestrator.http import HttpOptions
from orchestrator.http.errors import STATUS_OF_KIND
from orchestrator.service import Busy, Completed, RequestFailed
from tests.support.front_door import MODEL, TIMINGS, Door, picture, soon
from transfer.messages import ErrorInfo, Inputs, ModelInfo

PATH = "/v1/images/generations"


def pictures(reply: httpx.Response) -> list[bytes]:
    assert reply.status_code == 200, reply.text
    return [base64.b64decode(item["b64_json"]) for item in reply.json()["data"]]


async def post(door: Door, **fields: object) -> httpx.Response:
    async with door.client() as client:
        return await client.post(PATH, json={"prompt": "a cat", **fields})


async def test_a_picture_comes_back_with_all_that_clients_expect() -> None:
    door = Door()
    reply = await post(door, seed=7)
    assert pictures(reply) == [picture(7)]
    body = reply.json()
    assert body["size"] == "128x96"
    assert (body["quality"], body["output_format"], body["background"]) == ("high", "png", "opaque")
    assert body["usage"]["total_tokens"] == 0
    assert body["usage"]["input_tokens_details"] == {"image_tokens": 0, "text_tokens": 0}
    assert abs(body["created"] - time.time()) < 60
    assert reply.headers["content-length"] == str(len(reply.content))
    assert reply.headers["x-triptych-seed"] == "7"
    timings = json.loads(reply.headers["x-triptych-timings"])
    assert timings == {
        "queue_s": 0.001,
        "encoder_s": 0.01,
        "denoiser_s": 0.2,
        "decoder_s": 0.03,
        "transfer_s": 0.002,
        "total_s": 0.25,
    }


async def test_the_reply_tells_of_tiles() -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        way = "tiles" if inputs.seed == 8 else None
        media = door.media.add(f"m-{inputs.seed}", picture(inputs.seed), decoded_in=way)
        return Completed(media=[media], timings=TIMINGS, attempts=1)

    door.service.behave = make
    assert (await post(door, seed=7, n=2)).headers["x-triptych-decoded-in"] == "tiles"
    assert "x-triptych-decoded-in" not in (await post(door, seed=7)).headers


async def test_the_service_is_asked_what_the_client_asked() -> None:
    door = Door()
    reply = await post(door, seed=7, num_inference_steps=4, size="64x64", exact=True)
    [(request_id, inputs)] = door.service.asked
    assert request_id == reply.headers["x-request-id"]
    assert inputs.params == {
        "prompt": "a cat",
        "num_inference_steps": 4,
        "width": 64,
        "height": 64,
    }
    assert (inputs.seed, inputs.exact, inputs.output.format) == (7, True, "png")


async def test_n_pictures_are_n_requests_in_the_order_of_their_seeds() -> None:
    door = Door()
    last_first = asyncio.Event()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        if inputs.seed == 12:
            last_first.set()
        await last_first.wait()
        return await door.service.make(inputs, request_id)

    door.service.behave = make
    reply = await post(door, seed=10, n=3)
    assert pictures(reply) == [picture(10), picture(11), picture(12)]
    ids = {request_id for request_id, _ in door.service.asked}
    assert ids == {f"{reply.headers['x-request-id']}-{i}" for i in range(3)}
    assert sorted(door.media.released) == ["m-10", "m-11", "m-12"]


async def test_the_timings_are_those_of_the_slowest_picture() -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        made = await door.service.make(inputs, request_id)
        timings = msgspec.structs.replace(TIMINGS, total_s=float(inputs.seed))
        return msgspec.structs.replace(made, timings=timings)

    door.service.behave = make
    reply = await post(door, seed=3, n=2)
    assert json.loads(reply.headers["x-triptych-timings"])["total_s"] == 4.0


async def test_the_first_error_cancels_the_others_and_gives_their_files_back() -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        if inputs.seed == 0:
            return await door.service.make(inputs, request_id)
        if inputs.seed == 1:
            await soon(lambda: len(door.service.asked) == 3)
            raise RequestFailed(ErrorInfo(kind="rank_failed", message="no luck"))
        await asyncio.Event().wait()
        raise AssertionError

    door.service.behave = make
    reply = await post(door, seed=0, n=3)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "rank_failed"
    assert len(door.service.cancelled) == 1
    assert door.media.released == ["m-0"]


async def test_a_drawn_seed_is_told_and_repeats_the_picture() -> None:
    door = Door()
    async with door.client() as client:
        first = await client.post(PATH, json={"prompt": "a"})
        seed = int(first.headers["x-triptych-seed"])
        again = await client.post(PATH, json={"prompt": "a", "seed": seed})
    assert pictures(first) == pictures(again) == [picture(seed)]


async def test_a_refused_request_reaches_no_role() -> None:
    door = Door()
    reply = await post(door, size="100x100")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "size"
    assert door.service.asked == []


@pytest.mark.parametrize(
    ("kind", "status", "retried"),
    [
        ("invalid_request", 400, None),
        ("payload_too_large", 413, None),
        ("unsupported", 422, None),
        ("cancelled", 499, "false"),
        ("payload", 500, "false"),
        ("rank_failed", 500, "false"),
        ("rank_died", 500, "false"),
        ("transfer_failed", 500, "false"),
        ("internal", 500, "false"),
        ("instance_lost", 503, None),
        ("deadline", 504, "false"),
    ],
)
async def test_what_a_role_reports_has_a_status_and_a_place(
    kind: str, status: int, retried: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()
    error = msgspec.convert(
        {
            "kind": kind,
            "message": "it broke",
            "param": "prompt",
            "instance": "decoder-0",
            "rank": 1,
            "traceback": "Traceback: the secret of the server",
        },
        ErrorInfo,
    )

    async def fail(inputs: Inputs, request_id: str) -> Completed:
        raise RequestFailed(error)

    door.service.behave = fail
    reply = await post(door)
    assert reply.status_code == status
    told = reply.json()["error"]
    assert told["message"] == "it broke (instance decoder-0, rank 1)"
    assert (told["param"], told["code"]) == ("prompt", kind)
    assert told["type"] == ("invalid_request_error" if status < 499 else "server_error")
    assert reply.headers.get("x-should-retry") == retried
    assert "secret" not in reply.text
    assert "secret" in caplog.text
    assert reply.headers["x-request-id"] in caplog.text


async def test_every_kind_of_error_has_a_status() -> None:
    [kinds] = [f.type for f in msgspec.structs.fields(ErrorInfo) if f.name == "kind"]
    assert set(STATUS_OF_KIND) == set(kinds.__args__)


async def test_a_full_queue_says_when_to_come_back() -> None:
    door = Door()

    async def refuse(inputs: Inputs, request_id: str) -> Completed:
        raise Busy(2.5)

    door.service.behave = refuse
    reply = await post(door)
    assert reply.status_code == 429
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("3", "2500")
    assert reply.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("model", [None, MODEL])
async def test_without_a_route_the_missing_roles_are_named(model: ModelInfo | None) -> None:
    door = Door(model=model)
    door.service.lacking = ["denoiser", "decoder"]
    reply = await post(door)
    assert reply.status_code == 503
    assert "denoiser, decoder" in reply.json()["error"]["message"]
    assert reply.headers["retry-after"] == "2"


async def test_the_unforeseen_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()

    async def fail(inputs: Inputs, request_id: str) -> Completed:
        raise ZeroDivisionError("a secret")

    door.service.behave = fail
    reply = await post(door)
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] in reply.json()["error"]["message"]
    assert "secret" not in reply.text
    assert "a secret" in caplog.text


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
async def test_f1_a_file_that_dies_with_its_decoder_is_made_again(response_format: str) -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        made = await door.service.make(inputs, request_id)
        if len(door.service.asked) == 1:
            door.media.files.clear()
        return made

    door.service.behave = make
    reply = await post(door, seed=1, response_format=response_format)
    assert reply.status_code == 200
    assert [inputs.seed for _, inputs in door.service.asked] == [1, 1]
    assert len(door.media.released) == 2


async def test_a_file_that_is_gone_again_and_again_is_an_error() -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        made = await door.service.make(inputs, request_id)
        door.media.files.clear()
        return made

    door.service.behave = make
    reply = await post(door, seed=1)
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "media_lost"
    assert len(door.service.asked) == len(door.media.released) == 3


async def test_a_body_that_is_too_large_is_refused() -> None:
    door = Door(HttpOptions(max_body_bytes=1000))

    async def chunked() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with door.client() as client:
        announced = await client.post(PATH, content=b" " * 1001)
        unannounced = await client.post(PATH, content=chunked())
        fits = await client.post(PATH, content=b'{"prompt": "a"}' + b" " * 900)
    for reply in (announced, unannounced):
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "body_too_large"
    assert fits.status_code == 200


async def test_the_longest_prompt_fits_however_it_is_escaped() -> None:
    door = Door()
    body = json.dumps({"prompt": "\U0001f600" * 32_000, "negative_prompt": "ü" * 32_000})
    async with door.client() as client:
        reply = await client.post(PATH, content=body)
    assert reply.status_code == 200
