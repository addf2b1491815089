"""Replies with links: kept for a while, in bounded space, and fetched like files."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import msgspec
import pytest

from orchestrator.http import HttpOptions
from orchestrator.http.errors import ApiError
from orchestrator.http.media.reading import Reading
from orchestrator.http.media.shelf import Shelf
from orchestrator.http.media.store import Store
from orchestrator.service import Completed
from tests.support.front_door import Door, picture, soon
from transfer.errors import MediaError
from transfer.made import ImageMade
from transfer.messages import Inputs, Media

PATH = "/v1/images/generations"
URL = {"prompt": "a", "response_format": "url"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def media_of(nbytes: int) -> Media:
    return Media(id="m", made=ImageMade(), mime="image/png", nbytes=nbytes)


def reading_of(content: bytes, nbytes: int | None = None) -> Reading:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield content

    return Reading(chunks(), len(content) if nbytes is None else nbytes)


async def links(client: httpx.AsyncClient, **fields: object) -> list[str]:
    reply = await client.post(PATH, json={**URL, **fields})
    assert reply.status_code == 200, reply.text
    return [item["url"] for item in reply.json()["data"]]


async def test_a_link_gives_the_file_with_its_type() -> None:
    door = Door()
    async with door.client() as client:
        first, second = await links(client, seed=3, n=2)
        reply = await client.get(first)
        assert reply.content == picture(3)
        assert reply.headers["content-type"] == "image/png"
        assert reply.headers["content-length"] == "1000"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert first.startswith("http://door/v1/media/")
        assert first.endswith(".png")
        assert (await client.get(second)).content == picture(4)
    assert sorted(door.media.released) == ["m-3", "m-4"]


async def test_links_carry_the_public_address() -> None:
    door = Door(HttpOptions(public_url="https://pictures.example/"))
    async with door.client() as client:
        [link] = await links(client)
    assert link.startswith("https://pictures.example/v1/media/")


@pytest.mark.parametrize(
    ("range", "status", "content"),
    [
        ("bytes=0-9", 206, picture(1)[:10]),
        ("bytes=990-", 206, picture(1)[990:]),
        ("bytes=-5", 206, picture(1)[-5:]),
        ("bytes=2000-", 416, None),
        ("lines=1-2", 400, None),
    ],
)
async def test_ranges(range: str, status: int, content: bytes | None) -> None:
    door = Door()
    async with door.client() as client:
        [link] = await links(client, seed=1)
        reply = await client.get(link, headers={"range": range})
    assert reply.status_code == status
    if content is None:
        assert reply.json()["error"]["type"] == "invalid_request_error"
    else:
        assert reply.content == content
        assert reply.headers["content-range"].endswith("/1000")
    if status == 416:
        assert reply.headers["content-range"] == "bytes */1000"
        assert reply.json()["error"]["code"] == "bad_range"


async def test_a_head_has_no_body() -> None:
    door = Door()
    async with door.client() as client:
        [link] = await links(client)
        reply = await client.head(link)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-length"] == "1000"


@pytest.mark.parametrize("id", ["nothing", "..%2F..%2Fetc%2Fpasswd", "%00"])
async def test_an_unknown_link_is_not_found(id: str) -> None:
    door = Door()
    async with door.client() as client:
        reply = await client.get(f"/v1/media/{id}")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] in ("media_not_found", "not_found")


async def test_a_file_that_somebody_deleted_is_not_found(tmp_path: Path) -> None:
    door = Door(HttpOptions(media_store=str(tmp_path)))
    async with door.client() as client:
        [link] = await links(client)
        [file] = tmp_path.iterdir()
        file.unlink()
        assert (await client.get(link)).status_code == 404


async def test_the_folder_is_private_and_goes_with_the_process() -> None:
    door = Door()
    async with door.client() as client:
        [link] = await links(client)
        id = link.rpartition("/")[2]
        path = _shelf(door).store.local_path(id)
        assert path is not None
        assert path.read_bytes()
        assert os.stat(path.parent).st_mode & 0o077 == 0
    assert not path.parent.exists()


def _shelf(door: Door) -> Shelf:
    [route] = [r for r in door.app.routes if getattr(r, "path", "") == "/v1/media/{id}"][:1]
    shelf = route.endpoint.__self__._shelf  # type: ignore[attr-defined]
    assert isinstance(shelf, Shelf)
    return shelf


async def test_links_expire() -> None:
    door = Door(HttpOptions(media_ttl_s=0.05))
    async with door.client() as client:
        [link] = await links(client)
        path = _shelf(door).store.local_path(link.rpartition("/")[2])
        assert path is not None
        await soon(lambda: not path.exists())
        assert (await client.get(link)).status_code == 404


async def test_a_file_is_not_found_from_its_end_on_swept_or_not() -> None:
    clock = Clock()
    shelf = Shelf(Store(), 60.0, 1000, clock)
    id = await shelf.keep(media_of(3), reading_of(b"abc"))
    clock.now = 59.9
    await shelf.sweep()
    assert shelf.find(id)
    clock.now = 60.0
    assert shelf.find(id) is None
    assert shelf.nbytes == 3
    await shelf.sweep()
    assert shelf.nbytes == 0
    await shelf.close()


async def test_the_oldest_files_make_room() -> None:
    shelf = Shelf(Store(), 60.0, 10)
    first, second, third = [await shelf.keep(media_of(4), reading_of(b"abcd")) for _ in range(3)]
    assert shelf.find(first) is None
    assert shelf.find(second)
    assert shelf.find(third)
    with pytest.raises(ApiError, match="11 bytes") as caught:
        await shelf.keep(media_of(11), reading_of(b"x" * 11))
    assert caught.value.status == 413
    await shelf.close()


async def test_what_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    shelf = Shelf(Store(str(tmp_path)), 60.0, 100)
    with pytest.raises(Exception, match="3 bytes of a file of 4"):
        await shelf.keep(media_of(4), reading_of(b"abc", nbytes=4))
    assert (shelf.nbytes, list(tmp_path.iterdir())) == (0, [])


async def test_a_client_that_leaves_while_its_file_is_kept_leaves_nothing(tmp_path: Path) -> None:
    shelf = Shelf(Store(str(tmp_path)), 60.0, 100)
    reached = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"ab"
        reached.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(shelf.keep(media_of(4), Reading(chunks(), 4)))
    await reached.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert (shelf.nbytes, list(tmp_path.iterdir())) == (0, [])


async def test_links_of_a_reply_that_failed_are_not_kept(tmp_path: Path) -> None:
    door = Door(HttpOptions(media_store=str(tmp_path)))

    async def make(inputs: Inputs, request_id: str) -> Completed:
        made = await door.service.make(inputs, request_id)
        if inputs.seed == 2:
            door.media.files.pop("m-2")
        return made

    door.service.behave = make
    async with door.client() as client:
        reply = await client.post(PATH, json={**URL, "seed": 1, "n": 2})
        assert reply.status_code == 503
        assert list(tmp_path.iterdir()) == []
    assert sorted(set(door.media.released)) == ["m-1", "m-2"]


async def test_a_store_that_cannot_be_written_fails_that_request_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(HttpOptions(media_store=str(tmp_path / "missing")))
    async with door.client() as client:
        reply = await client.post(PATH, json={**URL, "seed": 1})
        assert reply.status_code == 500
        assert reply.json()["error"]["code"] == "media_store"
        assert "No such file" in reply.json()["error"]["message"]
        assert reply.headers["x-should-retry"] == "false"
        assert (await client.post(PATH, json={"prompt": "a"})).status_code == 200
    assert door.media.released[0] == "m-1"


async def test_a_full_disk_fails_with_its_reason() -> None:
    """/dev/full takes every open and refuses every byte."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    store = Store("/dev")
    with pytest.raises(ApiError, match="No space left on device"):
        await store._fill(await asyncio.to_thread(open, "/dev/full", "wb"), reading_of(b"a"))


async def test_a_file_that_lies_in_the_shared_store_is_not_copied(tmp_path: Path) -> None:
    door = Door(HttpOptions(media_store=str(tmp_path)))
    (tmp_path / "a.png").write_bytes(picture(1))

    async def make(inputs: Inputs, request_id: str) -> Completed:
        made = await door.service.make(inputs, request_id)
        media = msgspec.structs.replace(made.media[0], store_key="a.png")
        return msgspec.structs.replace(made, media=[media])

    door.service.behave = make
    async with door.client() as client:
        [link] = await links(client)
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
        assert (await client.get(link)).content == picture(1)
        assert door.media.released == []
    assert list(tmp_path.iterdir()) == []


async def test_a_store_elsewhere_is_streamed() -> None:
    """memory:// stands for every store that is not a folder of this machine."""
    door = Door(HttpOptions(media_store="memory://pictures"))
    async with door.client() as client:
        [link] = await links(client, seed=2)
        reply = await client.get(link)
        assert reply.content == picture(2)
        assert reply.headers["accept-ranges"] == "none"
        assert (await client.head(link)).headers["content-length"] == "1000"
        gone = _shelf(door).store
        await gone.delete(link.rpartition("/")[2])
        with pytest.raises(MediaError):
            await anext(gone.chunks("nothing"))
