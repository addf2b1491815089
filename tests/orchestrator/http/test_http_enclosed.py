"""Films and sounds that come with requests: in forms under their argument's name, or as data: URLs;
for videos, sounds, edits and jobs. And T16: never by a path or an address."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.http import HttpOptions
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door
from tests.support.media_files import film, frames, wav
from tests.support.models import AUDIO, VIDEO
from tests.transfer.test_pictures import RED, saved
from transfer.messages import MediaKind, ModelInfo, Parameter, Upload

FILM, MASK, PICTURE, SOUND = film(frames()), film(frames(4)), saved(RED), wav()
MOVER = msgspec.structs.replace(
    VIDEO, pictures=["image"], films=["pose_video", "mask"], sounds=["audio"]
)
SINGER = msgspec.structs.replace(AUDIO, sounds=["initial_audio_waveforms"])
OPTIONS = HttpOptions(max_pixels=512, max_video_pixels=512 * 5)


def upload(data: bytes, param: str, kind: MediaKind) -> Upload:
    return Upload(param, hashlib.sha256(data).hexdigest(), len(data), param == "mask", kind)


def url(data: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


def door(model: ModelInfo = MOVER) -> Door:
    return Door(OPTIONS, model, FakeJobs(at_once=False))


ALL = [
    upload(FILM, "pose_video", "film"),
    upload(PICTURE, "image", "picture"),
    upload(MASK, "mask", "film"),
    upload(SOUND, "audio", "sound"),
]
FILES = {"pose_video": FILM, "image": PICTURE, "mask": MASK, "audio": SOUND}


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/jobs"])
async def test_as_files_of_a_form(path: str) -> None:
    at = door()
    async with at.client() as client:
        reply = await client.post(path, data={"prompt": "a", "seed": "1"}, files=FILES)
        assert reply.status_code in (200, 202), reply.text
    (spec,) = at.jobs.specs.values()
    assert spec.inputs[0].uploads == ALL
    assert set(at.uploads.kept.values()) == set(FILES.values())


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/jobs"])
async def test_as_data_urls(path: str) -> None:
    at = door()
    fields: dict[str, Any] = {name: url(data) for name, data in FILES.items()}
    fields["image"] = [{"image_url": fields["image"]}]
    async with at.client() as client:
        reply = await client.post(path, json={"prompt": "a", "seed": 1, **fields})
        assert reply.status_code in (200, 202), reply.text
    (spec,) = at.jobs.specs.values()
    assert spec.inputs[0].uploads == ALL


async def test_a_sound_of_a_sound() -> None:
    at = door(SINGER)
    async with at.client() as client:
        for body in (
            {"data": {"prompt": "a"}, "files": {"initial_audio_waveforms": SOUND}},
            {"json": {"prompt": "a", "initial_audio_waveforms": url(SOUND)}},
        ):
            reply = await client.post("/v1/audio/generations", **body)  # type: ignore[arg-type]
            assert reply.status_code == 200, reply.text
    for _, inputs in at.service.asked:
        assert inputs.uploads == [upload(SOUND, "initial_audio_waveforms", "sound")]


async def test_the_pipeline_is_told_the_rate_to_which_sounds_are_resampled() -> None:
    rate = Parameter("initial_audio_sampling_rate", "int", required=False)
    at = door(msgspec.structs.replace(SINGER, parameters=[*SINGER.parameters, rate]))
    files = {"initial_audio_waveforms": SOUND}
    async with at.client() as client:
        for fields, status in (({}, 200), ({rate.name: "44100"}, 200), ({rate.name: "8"}, 400)):
            data = {"prompt": "a", **fields}
            reply = await client.post("/v1/audio/generations", data=data, files=files)
            assert reply.status_code == status, reply.text
        await client.post("/v1/audio/generations", json={"prompt": "a"})
    told = [inputs.params.get(rate.name) for _, inputs in at.service.asked]
    assert told == [44_100, 44_100, None]


async def test_a_remix_has_the_film_too() -> None:
    at = door()
    async with at.client() as client:
        video = (await client.post("/v1/videos", data={"prompt": "a"}, files=FILES)).json()
        await client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "b"})
    assert [spec.inputs[0].uploads for spec in at.jobs.specs.values()] == [ALL, ALL]


@pytest.mark.parametrize(
    ("files", "param", "status", "why"),
    [
        ({"pose_video": film(frames(6))}, "pose_video", 400, "more than 2560 pixels in all"),
        ({"pose_video": film(frames(1, (64, 16)))}, "pose_video", 400, "64x16 pixels; 512 at most"),
        ({"pose_video": FILM[:100]}, "pose_video", 400, "cannot be decoded"),
        ({"pose_video": PICTURE}, "pose_video", 400, "no film of mp4, matroska"),
        ({"pose_video": b"#EXTM3U\nfile:///etc/passwd"}, "pose_video", 400, "no film of"),
        ({"audio": FILM}, "audio", 400, "no sound in it"),
        ({"image": FILM}, "image", 400, "no picture of"),
        ({"face_video": FILM}, "face_video", 422, r"it takes `image` \(a picture\), `pose_video`"),
    ],
)
async def test_what_is_refused(files: dict[str, bytes], param: str, status: int, why: str) -> None:
    at = door()
    async with at.client() as client:
        reply = await client.post("/v1/videos", data={"prompt": "a"}, files=files)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert re.search(why, error["message"])
    assert (at.uploads.kept, at.jobs.specs) == ({}, {})


async def test_one_film_for_an_argument() -> None:
    at = door()
    files = [("pose_video", FILM), ("pose_video", MASK)]
    async with at.client() as client:
        reply = await client.post("/v1/videos", data={"prompt": "a"}, files=files)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "pose_video")


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/jobs", "/v1/images/edits"])
async def test_t16_no_path_and_no_address_is_ever_opened(path: str, tmp_path: Path) -> None:
    """T16. Wherever media may stand, the name of a file on the server's disk, or of a machine that
    the server could reach, is a 400 that names the field, and nothing is read."""
    file = tmp_path / "film.mkv"
    file.write_bytes(FILM)
    before = file.stat().st_atime_ns
    names = [str(file), f"file://{file}", "http://127.0.0.1:1/film.mkv", f"data:{file}", "film.mkv"]
    edits = path.endswith("edits")
    model = msgspec.structs.replace(MOVER, modality="image") if edits else MOVER
    at = door(model)
    async with at.client() as client:
        for name in names:
            for field in ("pose_video", "image", "audio"):
                for value in (name, {"image_url": name}, [name], {"path": name}, {"file_id": name}):
                    body = {"prompt": "a", field: value}
                    reply = await client.post(path, json=body)
                    assert reply.status_code == 400, (body, reply.text)
                    assert reply.json()["error"]["param"] == field
                    assert "data: URL" in reply.json()["error"]["message"]
            for value in (name, [name]):
                body = {"prompt": "a", "parameters": {"pose_video": value}}
                reply = await client.post(path, json={**body, "image": url(PICTURE)})
                assert (reply.status_code, reply.json()["error"]["param"]) == (400, "pose_video")
            form = {"prompt": (None, "a"), "pose_video": (None, name)}  # a field, and no file
            reply = await client.post(path, files=form)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "pose_video")
    assert set(at.uploads.kept.values()) <= {PICTURE}
    assert (at.jobs.specs, at.service.asked) == ({}, [])
    assert file.stat().st_atime_ns == before
