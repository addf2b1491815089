"""Arguments that are objects, and rows of pictures: in JSON as they are, in a form by their places;
what the schema permits is taken."""

import hashlib
from typing import Any

import msgspec
import pytest

from tests.orchestrator.http.test_http_enclosed import FILM, OPTIONS, PICTURE, url
from tests.orchestrator.http.test_http_parameters import validator
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door
from tests.support.models import VIDEO
from tests.transfer.test_pictures import RED, saved
from transfer.messages import Inputs, MediaField, ModelInfo, Parameter, Structure, Upload

OTHER = saved(RED.rotate(90).resize((16, 8)))
CONDITIONS = Structure(
    "conditions",
    "Condition",
    several=True,
    required=False,
    fields=[Parameter("index", "int", False, 0), Parameter("strength", "float", False, 1.0)],
    media=[MediaField("frames", ["film", "picture"], True)],
)
ACTION = Structure(
    "action",
    "Action",
    several=False,
    required=False,
    fields=[Parameter("mode", "str", True)],
    media=[MediaField("image", ["picture"], False)],
)
MODEL = msgspec.structs.replace(VIDEO, pictures=["image"], structures=[CONDITIONS, ACTION])
NEEDY = msgspec.structs.replace(
    MODEL, structures=[msgspec.structs.replace(CONDITIONS, required=True)]
)


def door(model: ModelInfo = MODEL) -> Door:
    return Door(OPTIONS, model, FakeJobs(at_once=False))


def upload(data: bytes, param: str, kind: Any = "picture") -> Upload:
    return Upload(param, hashlib.sha256(data).hexdigest(), len(data), kind=kind)


async def asked(**body: Any) -> Inputs:
    at = door()
    async with at.client() as client:
        reply = await client.post("/v1/videos", **body)
        assert reply.status_code == 200, reply.text
    (spec,) = at.jobs.specs.values()
    return spec.inputs[0]


TWO = [
    {"frames": url(PICTURE)},
    {"frames": url(FILM), "index": -1, "strength": 0.5},
]
UPLOADS = [upload(PICTURE, "conditions.0.frames"), upload(FILM, "conditions.1.frames", "film")]
PLAIN = {"prompt": "a", "conditions.1.index": -1, "conditions.1.strength": 0.5}


async def test_objects_in_json() -> None:
    inputs = await asked(json={"prompt": "a", "conditions": TWO})
    assert (inputs.uploads, inputs.params) == (UPLOADS, PLAIN)


async def test_objects_in_a_form() -> None:
    data = {"prompt": "a", "conditions.1.index": "-1", "conditions.1.strength": "0.5"}
    files = {"conditions.0.frames": PICTURE, "conditions.1.frames": FILM}
    inputs = await asked(data=data, files=files)
    assert (inputs.uploads, inputs.params) == (UPLOADS, PLAIN)


async def test_objects_as_json_in_a_form() -> None:
    texts = {"prompt": "a", "conditions": msgspec.json.encode(TWO).decode()}
    inputs = await asked(files={name: (None, text) for name, text in texts.items()})
    assert (inputs.uploads, inputs.params) == (UPLOADS, PLAIN)


async def test_an_object_alone_and_frames_one_by_one() -> None:
    film = {"frames": [url(PICTURE), url(OTHER)]}
    inputs = await asked(json={"prompt": "a", "conditions": film, "action": {"mode": "run"}})
    assert inputs.uploads == [
        upload(PICTURE, "conditions.0.frames"),
        upload(OTHER, "conditions.0.frames"),
    ]
    assert inputs.params == {"prompt": "a", "action.mode": "run"}


async def test_rows_of_pictures() -> None:
    rows = [[url(PICTURE), url(OTHER)], [url(OTHER), None]]
    inputs = await asked(json={"prompt": "a", "image": rows})
    assert inputs.uploads == [
        upload(PICTURE, "image.0.0"),
        upload(OTHER, "image.0.1"),
        upload(OTHER, "image.1.0"),
    ]
    assert inputs.params == {"prompt": "a", "image.1.1": None}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"conditions": [{"index": 1}]}, "conditions.0.frames"),
    ({"conditions": [{**TWO[0], "index": "a"}]}, "conditions.0.index"),
    ({"conditions": [{**TWO[0], "crf": 1}]}, "conditions.0.crf"),
    ({"conditions": [{"frames": "/etc/passwd"}]}, "conditions.0.frames"),
    ({"conditions": [7]}, "conditions"),
    ({"conditions": []}, "conditions"),
    ({"action": [{"mode": "run"}]}, "action"),
    ({"action": {"image": url(PICTURE)}}, "action.mode"),
    ({"action": {"mode": "run", "image": [url(PICTURE), url(OTHER)]}}, "action.image"),
    ({"image": [[url(PICTURE)], url(OTHER)]}, "image"),
    ({"image": [[7]]}, "image.0.0"),
    ({"image": [[]]}, "image"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_what_is_wrong_is_named_before_anything_is_kept(
    fields: dict[str, Any], param: str
) -> None:
    at = door()
    async with at.client() as client:
        page = (await client.get(f"/v1/models/{MODEL.name}")).json()
        assert [*validator(MODEL, page).iter_errors({"prompt": "a", **fields})]
        reply = await client.post("/v1/videos", json={"prompt": "a", **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert at.jobs.specs == {}


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"conditions.1.index": "1"}, "conditions.0"),
        ({"conditions.0.index": "1"}, "conditions.0.frames"),
        ({"conditions.0.depth": "1"}, "conditions.0.depth"),
        ({"conditions.16.index": "1"}, "conditions.16.index"),
        ({"conditions": "{"}, "conditions"),
    ],
)
async def test_places_in_a_form_that_are_wrong(data: dict[str, str], param: str) -> None:
    async with door().client() as client:
        texts = {name: (None, text) for name, text in {"prompt": "a", **data}.items()}
        reply = await client.post("/v1/videos", files=texts)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_the_schema_has_them() -> None:
    async with door().client() as client:
        page = (await client.get(f"/v1/models/{MODEL.name}")).json()
    schema = validator(MODEL, page)
    for body in (
        {"conditions": TWO},
        {"conditions": TWO[1], "action": {"mode": "run"}},
        {"image": [[url(PICTURE), None]]},
    ):
        assert not [*schema.iter_errors({"prompt": "a", **body})]
    fields = page["schema"]["properties"]
    assert fields["conditions"]["x-triptych"] == "structure"
    assert [each["name"] for each in page["structures"]] == ["conditions", "action"]


async def test_one_that_a_model_needs_is_asked_for() -> None:
    async with door(NEEDY).client() as client:
        reply = await client.post("/v1/videos", json={"prompt": "a"})
        page = (await client.get(f"/v1/models/{MODEL.name}")).json()
    assert reply.json()["error"]["code"] == "missing_field"
    assert reply.json()["error"]["param"] == "conditions"
    assert page["schema"]["required"] == ["prompt", "conditions"]
