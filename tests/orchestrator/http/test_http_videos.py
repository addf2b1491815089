"""`/v1/videos`, with the unmodified `openai` package: sync and async, over a real socket."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
from PIL import Image as Pillow

from orchestrator.http import HttpOptions
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door
from tests.support.models import AUDIO, VIDEO
from tests.support.sdk import Clients
from transfer.messages import ErrorInfo

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def film(path: Path, frames: int = 30) -> Path:
    """Frames that grow brighter."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), number * 8, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(HttpOptions(job_ttl_s=100.0), VIDEO, FakeJobs(at_once=False, folder=tmp_path))


@pytest.fixture(params=["sync", "async"])
async def clients(request: pytest.FixtureRequest, door: Door) -> AsyncIterator[Clients]:
    async with door.listening() as url:
        made = Clients(door, url, request.param == "sync")
        yield made
        await made.close()


async def test_a_video_from_its_creation_to_its_end(clients: Clients, tmp_path: Path) -> None:
    door, jobs = clients.door, clients.door.jobs
    video = await clients.call(
        "videos.create",
        prompt="a ball",
        seconds="2",
        size="64x48",
        extra_body={"seed": 5, "num_inference_steps": 4, "negative_prompt": "blurry"},
    )
    assert (video.object, video.status, video.progress) == ("video", "queued", 0)
    assert (video.model, video.prompt, video.size) == ("films", "a ball", "64x48")
    assert (video.seconds, video.error, video.remixed_from_video_id) == ("2.06", None, None)
    assert (video.created_at, video.completed_at, video.expires_at) == (1000, None, None)
    (inputs,) = jobs.specs[video.id].inputs
    # 2 s of 16 frames are 32; the nearest that there is: a multiple of four, and one
    asked = {"prompt": "a ball", "negative_prompt": "blurry", "num_frames": 33}
    assert inputs.params == {**asked, "num_inference_steps": 4, "width": 64, "height": 48}
    assert (inputs.seed, inputs.output.format) == (5, "mp4")

    await jobs.step(video.id, "denoiser", 2, 4)
    video = await clients.call("videos.retrieve", video_id=video.id)
    assert (video.status, video.progress) == ("in_progress", 49)

    await jobs.complete(video.id, film(tmp_path / "film.mp4").read_bytes())
    video = await clients.call("videos.poll", video_id=video.id)
    assert (video.status, video.progress, video.seconds) == ("completed", 100, "1.88")
    assert (video.completed_at, video.expires_at) == (2000, 2100)
    content = await clients.call("videos.download_content", video_id=video.id)
    assert content.response.headers["content-type"] == "video/mp4"
    assert content.content == (tmp_path / "film.mp4").read_bytes()

    gone = await clients.call("videos.delete", video_id=video.id)
    assert (gone.id, gone.object, gone.deleted) == (video.id, "video.deleted", True)
    assert door.jobs.jobs == {}
    with pytest.raises(openai.NotFoundError):
        await clients.call("videos.retrieve", video_id=video.id)


async def test_create_and_poll(clients: Clients) -> None:
    clients.door.jobs.at_once = True
    video = await clients.call("videos.create_and_poll", prompt="a ball", poll_interval_ms=1)
    assert video.status == "completed"


@pytest.mark.parametrize("in_memory", [False, True])
async def test_still_pictures(clients: Clients, tmp_path: Path, in_memory: bool) -> None:
    jobs = clients.door.jobs
    if in_memory:
        jobs.folder = None
    video = await clients.call("videos.create", prompt="a ball")
    await jobs.complete(video.id, film(tmp_path / "film.mp4").read_bytes())

    async def still(variant: str) -> Pillow.Image:
        content = await clients.call("videos.download_content", video_id=video.id, variant=variant)
        kind = {"thumbnail": "webp", "spritesheet": "jpeg"}[variant]
        assert content.response.headers["content-type"] == f"image/{kind}"
        return Pillow.open(io.BytesIO(content.content))

    assert (await still("thumbnail")).size == (64, 48)
    sheet = await still("spritesheet")
    assert sheet.size == (5 * 64, 3 * 48)  # 30 frames, every second of them
    shades = [sheet.getpixel((64 * i + 32, 24))[0] for i in range(5)]
    assert shades == sorted(set(shades))


async def test_no_still_pictures_of_what_is_no_video(clients: Clients) -> None:
    video = await clients.call("videos.create", prompt="a ball")
    await clients.door.jobs.complete(video.id, b"no film")
    with pytest.raises(openai.UnprocessableEntityError, match="thumbnail"):
        await clients.call("videos.download_content", video_id=video.id, variant="thumbnail")


async def test_the_list_has_videos_only(clients: Clients) -> None:
    made = [(await clients.call("videos.create", prompt=f"{i}")).id for i in range(3)]
    await clients.raw("post", "/jobs", body={"prompt": "a job"})

    async def page(**arguments: Any) -> tuple[list[str], bool]:
        raw = await clients.call("videos.with_raw_response.list", **arguments)
        told = json.loads(raw.http_response.read() if clients.sync else raw.content)
        assert told["object"] == "list"
        ids = [each["id"] for each in told["data"]]
        assert (told["first_id"], told["last_id"]) == (ids[0], ids[-1])
        return ids, told["has_more"]

    assert await page() == (made[::-1], False)
    assert await page(limit=2) == ([made[2], made[1]], True)
    assert await page(order="asc", limit=2) == (made[:2], True)
    assert await page(order="asc", after=made[0]) == (made[1:], False)
    with pytest.raises(openai.BadRequestError, match="after"):
        await page(after="video_0")


async def test_a_video_that_fails_and_one_that_is_cancelled(clients: Clients) -> None:
    jobs = clients.door.jobs
    first = await clients.call("videos.create", prompt="a")
    await jobs.fail(first.id, ErrorInfo(kind="rank_died", message="exit code -9", instance="d0"))
    failed = await clients.call("videos.poll", video_id=first.id)
    assert (failed.status, failed.error.code, failed.completed_at) == ("failed", "rank_died", None)
    assert "exit code -9" in failed.error.message
    second = await clients.call("videos.create", prompt="b")
    cancelled = await clients.raw("post", f"/videos/{second.id}/cancel")
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    with pytest.raises(openai.ConflictError):
        await clients.call("videos.download_content", video_id=second.id)


async def test_deleting_a_video_that_is_being_made_cancels_it(clients: Clients) -> None:
    video = await clients.call("videos.create", prompt="a")
    await clients.call("videos.delete", video_id=video.id)
    assert clients.door.jobs.forgotten == [(video.id, "cancelled")]


async def test_a_remix_is_the_same_with_another_prompt(clients: Clients) -> None:
    jobs = clients.door.jobs
    first = await clients.call(
        "videos.create", prompt="a ball", seconds="1", extra_body={"num_inference_steps": 7}
    )
    await jobs.complete(first.id)
    remix = await clients.call("videos.remix", video_id=first.id, prompt="a cube")
    assert (remix.remixed_from_video_id, remix.prompt) == (first.id, "a cube")
    before, after = (jobs.specs[each.id].inputs[0] for each in (first, remix))
    assert after.seed == before.seed
    assert after.params == {**before.params, "prompt": "a cube"}
    with pytest.raises(openai.NotFoundError):
        await clients.call("videos.remix", video_id="video_0", prompt="a")


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"seconds": "long"}, "seconds"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": "90"}, "seconds"),  # more frames than there may be
        ({"size": "big"}, "size"),
        ({"extra_body": {"n": 2}}, "n"),
        ({"extra_body": {"steps": 2}}, "steps"),
        ({"extra_body": {"seed": "five"}}, "seed"),
        ({"extra_body": {"seconds": "1", "num_frames": 5}}, "seconds"),
    ],
)
async def test_what_is_wrong_is_named(
    clients: Clients, arguments: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.call("videos.create", prompt="a", **arguments)
    assert caught.value.param == param


async def test_a_form_that_is_none_or_too_large() -> None:
    door = Door(HttpOptions(max_upload_bytes=2000), VIDEO)
    async with door.client() as client:
        head = {"content-type": "multipart/form-data; boundary=x"}
        broken = await client.post("/v1/videos", content=b"--y\r\n", headers=head)
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_form")
        head = {"content-type": "multipart/form-data"}
        assert (await client.post("/v1/videos", content=b"", headers=head)).status_code == 400
        large = await client.post("/v1/videos", data={"prompt": "a"}, files={"x": b"0" * 3000})
        assert large.status_code == 413
        as_json = await client.post("/v1/videos", json={"prompt": "a", "seconds": 1})
        assert (as_json.status_code, as_json.json()["seconds"]) == (200, "1.06")


async def test_a_retry_with_its_key_is_the_same_video(clients: Clients) -> None:
    again = {"extra_headers": {"Idempotency-Key": "k"}, "prompt": "a"}
    ids = {(await clients.call("videos.create", **again)).id for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize("model", [None, AUDIO])
async def test_a_model_that_makes_no_videos(model: Any) -> None:
    door = Door(model=model) if model else Door()
    async with door.client() as client:
        reply = await client.post("/v1/videos", json={"prompt": "a"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (422, "model")


# ---------------------------------------------------------------- sounds


async def test_sounds() -> None:
    door = Door(model=AUDIO)
    async with door.client() as client:
        asked = {"prompt": "a bell", "seconds": 1.5, "output_format": "flac", "seed": 3}
        reply = await client.post("/v1/audio/generations", json=asked)
        assert reply.status_code == 200
        assert reply.json()["output_format"] == "flac"
        ((_, inputs),) = door.service.asked
        assert inputs.params == {"prompt": "a bell", "audio_end_in_s": 1.5}
        assert (inputs.output.format, inputs.seed) == ("flac", 3)
        bad = await client.post("/v1/audio/generations", json={**asked, "output_format": "mp4"})
        assert (bad.status_code, bad.json()["error"]["param"]) == (422, "output_format")


async def test_a_model_that_makes_no_sounds() -> None:
    async with Door(model=VIDEO).client() as client:
        reply: httpx.Response = await client.post("/v1/audio/generations", json={"prompt": "a"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (422, "model")
