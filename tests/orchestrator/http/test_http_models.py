"""Several models behind one door: which one a request gets, and what is told of each."""

import base64
import io
from typing import Any

import msgspec
import pytest
from PIL import Image as Pillow

from orchestrator.http.errors import ApiError
from orchestrator.http.request.choice import chosen
from orchestrator.operator import SeveralModels
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import MODEL, Door
from tests.support.models import AUDIO, EDITOR, VIDEO
from transfer.messages import ModelInfo


def _pixel() -> str:
    file = io.BytesIO()
    Pillow.new("RGB", (16, 16)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


PIXEL = _pixel()


def door(*models: ModelInfo, jobs: FakeJobs | None = None) -> Door:
    made = Door(model=None, jobs=jobs)
    made.service.served, made.service.lacking = list(models), []
    return made


@pytest.fixture
def two() -> Door:
    return door(MODEL, EDITOR)


async def post(
    door: Door, path: str = "/v1/images/generations", **fields: object
) -> tuple[int, dict[str, Any]]:
    async with door.client() as client:
        reply = await client.post(path, json={"prompt": "a", **fields})
        return reply.status_code, reply.json()


async def get(door: Door, path: str) -> tuple[int, dict[str, Any]]:
    async with door.client() as client:
        reply = await client.get(path)
        return reply.status_code, reply.json()


# ---------------------------------------------------------------- which one is meant


@pytest.mark.parametrize("name", ["demo", "default", None])
def test_the_only_one_may_be_named_or_not(name: str | None) -> None:
    assert chosen(door(MODEL).service, name) is MODEL


@pytest.mark.parametrize("name", ["default", None])
def test_of_several_one_has_to_be_named(two: Door, name: str | None) -> None:
    with pytest.raises(ApiError, match="this server serves `demo` and `edits`; name one") as caught:
        chosen(two.service, name)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, "model", "missing_field")


@pytest.mark.parametrize("name", ["default", None])
def test_unless_one_was_declared(two: Door, name: str | None) -> None:
    two.service.usual = "edits"
    assert chosen(two.service, name) is EDITOR


def test_an_unknown_one_is_told_which_there_are() -> None:
    with pytest.raises(ApiError) as caught:
        chosen(door(MODEL, EDITOR, VIDEO).service, "dall-e-3")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert caught.value.message == (
        "there is no model `dall-e-3`; this server serves `demo`, `edits` and `films`"
    )


def test_one_that_is_called_default_can_be_named() -> None:
    called = msgspec.structs.replace(EDITOR, name="default")
    assert chosen(door(MODEL, called).service, "default") is called


def test_before_the_first_has_come_it_is_not_ready() -> None:
    empty = Door(model=None)
    with pytest.raises(ApiError) as caught:
        chosen(empty.service, None)
    assert (caught.value.status, caught.value.code) == (503, "not_ready")


# ---------------------------------------------------------------- requests


async def test_a_request_goes_to_its_model(two: Door) -> None:
    for name in ("edits", "demo", "edits"):
        assert (await post(two, model=name))[0] == 200
    assert two.service.meant == ["edits", "demo", "edits"]


async def test_fields_are_those_of_its_model(two: Door) -> None:
    assert (await post(two, model="edits", strength=0.5))[0] == 200
    status, reply = await post(two, model="demo", strength=0.5)
    assert (status, reply["error"]["param"]) == (422, "strength")
    assert "`demo`" in reply["error"]["message"]


async def test_media_are_those_of_its_model(two: Door) -> None:
    status, _ = await post(two, model="edits", image=PIXEL)
    assert status == 200
    assert two.service.asked[-1][1].uploads[0].param == "image"
    two.service.served[0] = AUDIO
    status, reply = await post(two, "/v1/audio/generations", model="sounds", image=PIXEL)
    assert (status, reply["error"]["param"]) == (400, "image")


async def test_a_form_says_whose_its_fields_are() -> None:
    both = door(EDITOR, AUDIO)
    async with both.client() as client:
        fields = {"prompt": "rain", "model": "sounds", "audio_end_in_s": "1.5"}
        form = {name: (None, text) for name, text in fields.items()}
        reply = await client.post("/v1/audio/generations", files=form)
    assert reply.status_code == 200, reply.text
    assert both.service.meant == ["sounds"]
    assert both.service.asked[0][1].params["audio_end_in_s"] == 1.5
    status, reply = await post(both, "/v1/audio/generations", model="edits")
    assert (status, reply["error"]["param"]) == (422, "model")
    status, reply = await post(both, "/v1/audio/generations")
    assert (status, reply["error"]["code"]) == (400, "missing_field")


async def test_streamed_and_several_pictures_too(two: Door) -> None:
    async with two.client() as client:
        asked = {"prompt": "a", "model": "edits", "stream": True, "n": 2}
        reply = await client.post("/v1/images/generations", json=asked)
    assert reply.status_code == 200
    assert two.service.meant == ["edits", "edits"]


async def test_one_that_is_not_ready_says_so_by_name(two: Door) -> None:
    two.service.lacks["edits"] = ["decoder"]
    assert (await post(two, model="demo"))[0] == 200
    status, reply = await post(two, model="edits")
    assert status == 503
    assert reply["error"]["message"] == "not ready: no live instance of decoder (of `edits`)"


async def test_a_job_keeps_its_model() -> None:
    both = door(MODEL, EDITOR, jobs=FakeJobs(at_once=False))
    status, job = await post(both, "/v1/jobs", model="edits")
    assert (status, job["model"]) == (202, "edits")
    assert both.jobs.specs[job["id"]].described.model == "edits"
    assert (await get(both, f"/v1/jobs/{job['id']}"))[1]["model"] == "edits"
    assert (await get(both, "/v1/jobs"))[1]["data"][0]["model"] == "edits"
    status, reply = await post(both, "/v1/jobs")
    assert (status, reply["error"]["param"]) == (400, "model")


async def test_a_remix_is_of_the_model_of_the_first() -> None:
    """Although another one is the usual one by now."""
    both = door(VIDEO, MODEL, jobs=FakeJobs(at_once=True))
    both.service.usual = "films"
    _, video = await post(both, "/v1/videos")
    assert video["model"] == "films"
    both.service.usual = "demo"
    status, again = await post(both, f"/v1/videos/{video['id']}/remix", prompt="b")
    assert (status, again["model"]) == (200, "films")


# ---------------------------------------------------------------- what is told of them


async def test_all_are_listed_each_with_its_own_page(two: Door) -> None:
    _, listed = await get(two, "/v1/models")
    assert [each["id"] for each in listed["data"]] == ["demo", "edits"]
    for name, field in (("demo", "guidance_scale"), ("edits", "strength")):
        status, page = await get(two, f"/v1/models/{name}")
        assert (status, page["id"]) == (200, name)
        assert field in page["schema"]["properties"]
    status, reply = await get(two, "/v1/models/default")
    assert (status, reply["error"]["code"]) == (404, "model_not_found")
    two.service.usual = "edits"
    assert (await get(two, "/v1/models/default"))[1]["id"] == "edits"


async def test_the_schema_says_whether_the_model_has_to_be_named(two: Door) -> None:
    two.service.usual = "edits"
    usual, other = [(await get(two, f"/v1/models/{x}"))[1]["schema"] for x in ("edits", "demo")]
    assert usual["properties"]["model"]["enum"] == ["edits", "default"]
    assert "model" not in usual["required"]
    assert other["properties"]["model"]["const"] == "demo"
    assert "model" in other["required"]


async def test_ready_is_all_of_them_and_each_can_be_asked_for(two: Door) -> None:
    ready = {"ready": True, "missing": [], "models": {"demo": [], "edits": []}}
    assert await get(two, "/ready") == (200, ready)
    two.service.lacks["edits"] = ["encoder", "decoder"]
    status, reply = await get(two, "/ready")
    assert (status, reply["ready"]) == (503, False)
    assert reply["missing"] == ["encoder", "decoder"]
    assert reply["models"] == {"demo": [], "edits": ["encoder", "decoder"]}
    assert reply["error"]["message"].endswith("encoder, decoder (of `edits`)")
    assert await get(two, "/ready?model=demo") == (200, {"ready": True, "missing": []})
    assert (await get(two, "/ready?model=edits"))[0] == 503
    assert (await get(two, "/ready?model=nobody"))[0] == 404


async def test_a_call_to_ranks_can_be_for_one_model(two: Door) -> None:
    asked = {"target": "denoiser", "method": "health", "model": "edits"}
    async with two.client() as client:
        assert (await client.post("/v1/cluster/rpc", json=asked)).status_code == 200
        two.service.operator.told = SeveralModels("these are of several models (demo, edits)")
        asked = {"target": "denoiser", "method": "load_lora", "args": {"name": "a", "path": "/a"}}
        reply = await client.post("/v1/cluster/rpc", json=asked)
    assert two.service.operator.models == ["edits", None]
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "model"
    assert "(demo, edits); name one" in reply.json()["error"]["message"]
