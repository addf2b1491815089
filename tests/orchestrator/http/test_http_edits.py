"""Pictures that come with a request: `/v1/images/edits`, `/v1/images/variations` and the
`input_reference` of a video, with the unmodified `openai` package."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from orchestrator.http import HttpOptions
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door, picture
from tests.support.models import EDITOR, VIDEO
from tests.support.sdk import Clients
from tests.transfer.test_pictures import RED, bomb, saved
from transfer.messages import Upload

PICTURE, OTHER = saved(RED), saved(Image.new("RGB", (4, 4)))
MASK = saved(Image.new("RGBA", (8, 6)))
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),  # variations
]


def upload(data: bytes, param: str = "image") -> Upload:
    hash = hashlib.sha256(data).hexdigest()
    return Upload(param, hash, len(data), mask=param == "mask_image")


@pytest.fixture(params=["sync", "async"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[Clients]:
    door = Door(HttpOptions(max_pixels=10_000, max_upload_bytes=100_000), EDITOR)
    async with door.listening() as url:
        made = Clients(door, url, request.param == "sync")
        yield made
        await made.close()


async def test_one_picture(clients: Clients) -> None:
    reply = await clients.call(
        "images.edit",
        image=("red.png", PICTURE),
        prompt="a red hat",
        n=2,
        size="auto",
        input_fidelity="high",
        extra_body={"seed": 5, "strength": 0.5},
    )
    assert [base64.b64decode(item.b64_json) for item in reply.data] == [picture(5), picture(6)]
    inputs = [inputs for _, inputs in clients.door.service.asked]
    assert [each.uploads for each in inputs] == [[upload(PICTURE)]] * 2
    assert inputs[0].params == {"prompt": "a red hat", "strength": 0.5}
    assert clients.door.uploads.kept == {upload(PICTURE).hash: PICTURE}  # once


async def test_several_pictures_and_a_mask(clients: Clients) -> None:
    await clients.call("images.edit", image=[PICTURE, OTHER], mask=MASK, prompt="a hat")
    ((_, inputs),) = clients.door.service.asked
    assert inputs.uploads == [upload(PICTURE), upload(OTHER), upload(MASK, "mask_image")]


async def test_a_stream_of_an_edit(clients: Clients, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(PICTURE)
    events: Any = await clients.call(
        "images.edit", image=tmp_path / "red.png", prompt="a hat", stream=True
    )
    # the server is in this thread
    waited = await asyncio.to_thread(list, events) if clients.sync else None
    found = waited or [event async for event in events]
    assert [event.type for event in found] == ["image_edit.completed"]


async def test_a_variation(clients: Clients) -> None:
    reply = await clients.call("images.create_variation", image=PICTURE, extra_body={"seed": 4})
    assert base64.b64decode(reply.data[0].b64_json) == picture(4)
    ((_, inputs),) = clients.door.service.asked
    assert (inputs.params, inputs.uploads) == ({"prompt": ""}, [upload(PICTURE)])


async def test_pictures_as_json(clients: Clients) -> None:
    def url(data: bytes) -> dict[str, str]:
        return {"image_url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}

    body = {"prompt": "a hat", "images": [url(PICTURE)], "mask": url(MASK)}
    reply = await clients.raw("post", "/images/edits", body=body)
    assert reply["data"][0]["b64_json"]
    ((_, inputs),) = clients.door.service.asked
    assert inputs.uploads == [upload(PICTURE), upload(MASK, "mask_image")]
    for wrong in ({"image_url": "http://10.0.0.1/x.png"}, {"file_id": "file-1"}, {}):
        with pytest.raises(openai.BadRequestError) as caught:
            await clients.raw("post", "/images/edits", body={**body, "images": [wrong]})
        assert caught.value.param == "images"


@pytest.mark.parametrize(
    ("image", "mask", "param", "why"),
    [
        (bomb(20_000), None, "image", "10000 at most"),
        (saved(Image.new("1", (101, 100))), None, "image", "101x100 pixels; 10000 at most"),
        (b"no picture", None, "image", "no picture of"),
        (PICTURE[:-30], None, "image", "cannot be decoded"),
        (PICTURE, OTHER, "mask", "4x4 pixels, the picture has 8x6"),
    ],
)
async def test_what_is_refused(
    clients: Clients, image: bytes, mask: bytes | None, param: str, why: str
) -> None:
    masked = {} if mask is None else {"mask": mask}
    with pytest.raises(openai.BadRequestError, match=why) as caught:
        await clients.call("images.edit", image=image, prompt="a", **masked)
    assert caught.value.param == param
    assert clients.door.uploads.kept == {}


async def test_a_body_that_is_too_large(clients: Clients) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await clients.call("images.edit", image=bytes(200_000), prompt="a")
    assert caught.value.status_code == 413


async def test_a_model_that_takes_no_pictures() -> None:
    async with Door().client() as client:
        files = {"image": PICTURE}
        reply = await client.post("/v1/images/edits", data={"prompt": "a"}, files=files)
        assert (reply.status_code, reply.json()["error"]["param"]) == (422, "image")
        reply = await client.post("/v1/images/edits", data={"prompt": "a"}, files={"x": b"1"})
        assert reply.json()["error"]["code"] == "missing_field"


async def test_a_retry_with_its_key_and_its_picture_is_the_same_edit(clients: Clients) -> None:
    async def edit(image: bytes) -> Any:
        key = {"extra_headers": {"Idempotency-Key": "k"}}
        return await clients.call("images.edit", image=image, prompt="a", **key)

    first, again = await edit(PICTURE), await edit(PICTURE)
    assert first.data[0].b64_json == again.data[0].b64_json
    assert len(clients.door.jobs.jobs) == 1
    (spec,) = clients.door.jobs.specs.values()
    assert spec.inputs[0].uploads == [upload(PICTURE)]
    with pytest.raises(openai.UnprocessableEntityError, match="Idempotency-Key"):
        await edit(OTHER)


@pytest.mark.parametrize("sync", [True, False])
async def test_a_video_that_begins_with_a_picture(sync: bool) -> None:
    door = Door(model=VIDEO, jobs=FakeJobs(at_once=False))
    async with door.listening() as url:
        clients = Clients(door, url, sync)
        video = await clients.call("videos.create", prompt="a", input_reference=PICTURE)
        assert door.jobs.specs[video.id].inputs[0].uploads == [upload(PICTURE)]
        remix = await clients.call("videos.remix", video_id=video.id, prompt="b")
        assert door.jobs.specs[remix.id].inputs[0].uploads == [upload(PICTURE)]
        await clients.close()
