"""Arguments of the pipeline given by name, and the JSON schema that says which there are: what the
schema permits is taken, and what it does not is a 400 or 422 that names the field."""

import base64
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from orchestrator.http.errors import ApiError
from orchestrator.http.request.parameters import MAX_ITEMS, accept, schema_of
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import MODEL, Door
from tests.support.models import AUDIO, EDITOR, VIDEO
from tests.transfer.test_pictures import RED, saved
from transfer.messages import ModelInfo, Parameter

OTHERS = [
    Parameter("eta", "float", required=False, default=0.0),
    Parameter("clip_skip", "int", required=False),
    Parameter("sigmas", "list[float]", required=False),
    Parameter("guess_mode", "bool", required=False, default=False),
    Parameter("prompt_2", "str", required=False),
    Parameter("scale", "float | list[float]", required=False, default=1.0),
    Parameter("seed", "int", required=False),
]
RICH = msgspec.structs.replace(MODEL, name="rich", parameters=[*MODEL.parameters, *OTHERS])
NEEDY = msgspec.structs.replace(
    VIDEO,
    parameters=[*VIDEO.parameters, Parameter("mode", "str", required=True)],
    pictures=["image"],
    films=["pose_video", "mask"],
    needs=["pose_video"],
)
PICTURE = "data:image/png;base64," + base64.b64encode(saved(RED)).decode()


def validator(model: ModelInfo, page: dict[str, Any]) -> Draft202012Validator:
    assert page["schema"]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert page["schema"]["title"].startswith(model.name)
    Draft202012Validator.check_schema(page["schema"])
    return Draft202012Validator(page["schema"])


async def schema(model: ModelInfo) -> Draft202012Validator:
    async with Door(model=model).client() as client:
        return validator(model, (await client.get(f"/v1/models/{model.name}")).json())


@pytest.mark.parametrize("model", [MODEL, RICH, NEEDY, EDITOR, VIDEO, AUDIO])
async def test_each_kind_of_model_has_a_schema(model: ModelInfo) -> None:
    found = (await schema(model)).schema
    fields = found["properties"]
    assert [name for name in model.media() if fields[name]["x-media"] != model.media()[name]] == []
    known = {name for name, each in fields.items() if each["x-triptych"] == "parameter"}
    # a file has frames per second, whatever its pipeline takes; `seed` is the request's
    assert known == {parameter.name for parameter in model.parameters} - {"seed"}
    assert set(found["required"]) == {"prompt", *model.needs} | ({"mode"} & known)


async def test_the_schema_has_defaults_and_ranges() -> None:
    fields = (await schema(RICH)).schema["properties"]
    assert fields["num_inference_steps"]["default"] == 8
    assert (fields["num_inference_steps"]["minimum"], fields["eta"]["maximum"]) == (1, 1)
    assert fields["width"]["default"] == 128
    assert fields["width"]["multipleOf"] == 16
    assert fields["output_format"]["enum"] == ["png", "jpeg", "webp"]
    assert "step_cache" not in fields


GOOD: list[dict[str, Any]] = [
    {},
    {"eta": 0.5, "clip_skip": 2, "sigmas": [1, 0.5, 0], "guess_mode": True, "prompt_2": "b"},
    {"eta": 1, "clip_skip": 3.0},
    {"scale": [0.5, 1], "n": 2, "seed": 3, "width": 64, "height": 64},
    {"scale": 2, "size": "64x64", "output_format": "webp", "priority": "low", "exact": True},
    {"sigmas": []},
    {"loras": []},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"eta": "0.5"}, "eta"),
    ({"eta": 1.5}, "eta"),
    ({"eta": True}, "eta"),
    ({"clip_skip": 1.5}, "clip_skip"),
    ({"clip_skip": -1}, "clip_skip"),
    ({"clip_skip": 2**70}, "clip_skip"),
    ({"guess_mode": 1}, "guess_mode"),
    ({"prompt_2": 7}, "prompt_2"),
    ({"prompt_2": "x" * 32_001}, "prompt_2"),
    ({"sigmas": 1.0}, "sigmas"),
    ({"sigmas": ["a"]}, "sigmas"),
    ({"sigmas": [0.5] * (MAX_ITEMS + 1)}, "sigmas"),
    ({"scale": {"a": 1}}, "scale"),
    ({"scale": [[[1]]]}, "scale"),
    ({"etta": 0.5}, "etta"),
    ({"width": 60}, "width"),
    ({"output_format": "mp4"}, "output_format"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"strength": 0.5}, "strength"),
    ({"n": 11}, "n"),
    ({"image": PICTURE}, "image"),
]


@pytest.mark.parametrize("fields", GOOD)
async def test_what_the_schema_permits_is_taken(fields: dict[str, Any]) -> None:
    door, body = Door(model=RICH, jobs=FakeJobs(at_once=False)), {"prompt": "a", **fields}
    assert not [*(await schema(RICH)).iter_errors(body)]
    async with door.client() as client:
        reply = await client.post("/v1/jobs", json=body)
    assert reply.status_code == 202, reply.text
    (spec,) = door.jobs.specs.values()
    given = {name for name in fields if name in {each.name for each in OTHERS} - {"seed"}}
    assert given == set(spec.inputs[0].params) & {each.name for each in OTHERS}


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_what_it_does_not_is_refused_before_anything_is_queued(
    fields: dict[str, Any], param: str
) -> None:
    door, body = Door(model=RICH), {"prompt": "a", **fields}
    assert [*(await schema(RICH)).iter_errors(body)]
    async with door.client() as client:
        for path in ("/v1/jobs", "/v1/images/generations"):
            reply = await client.post(path, json=body)
            assert reply.status_code in (400, 422)
            assert reply.json()["error"]["param"] == param
    assert (door.service.asked, door.jobs.specs, door.uploads.kept) == ([], {}, {})


async def test_values_reach_the_pipeline_as_it_has_them() -> None:
    door = Door(model=RICH)
    async with door.client() as client:
        body = {"prompt": "a", "eta": 1, "clip_skip": 2.0, "sigmas": [1, 0]}
        await client.post("/v1/images/generations", json=body)
        nested = {"prompt": "a", "parameters": {"eta": 1, "clip_skip": None}}
        await client.post("/v1/images/generations", json=nested)
    first, second = (inputs.params for _, inputs in door.service.asked)
    assert first == {"prompt": "a", "eta": 1.0, "clip_skip": 2, "sigmas": [1.0, 0.0]}
    assert [type(first[name]) for name in ("eta", "clip_skip")] == [float, int]
    assert second == {"prompt": "a", "eta": 1.0}


@pytest.mark.parametrize("name", ["seed", "prompt", "num_inference_steps"])
async def test_a_field_of_ours_is_no_other_argument(name: str) -> None:
    async with Door(model=RICH).client() as client:
        body = {"prompt": "a", "parameters": {name: 1}}
        reply = await client.post("/v1/images/generations", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)


async def test_what_a_model_needs_is_asked_for() -> None:
    async with Door(model=NEEDY).client() as client:
        missing = []
        for fields in ({}, {"prompt": "a"}, {"prompt": "a", "mode": "walk"}):
            error = (await client.post("/v1/videos", json=fields)).json()["error"]
            assert error["code"] == "missing_field"
            missing.append(error["param"])
    assert missing == ["prompt", "mode", "pose_video"]


async def test_a_pipeline_without_a_prompt_needs_none() -> None:
    model = msgspec.structs.replace(MODEL, parameters=MODEL.parameters[1:])
    assert "prompt" not in (await schema(model)).schema["properties"]
    async with Door(model=model).client() as client:
        assert (await client.post("/v1/images/generations", json={})).status_code == 200
        reply = await client.post("/v1/images/generations", json={"prompt": "a"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (422, "prompt")


async def test_a_form_says_it_in_texts() -> None:
    door = Door(model=msgspec.structs.replace(RICH, pictures=["image"]))
    fields = {"prompt": "a", "eta": "0.5", "sigmas": "[1, 0.5]", "prompt_2": "7", "seed": "3"}
    async with door.client() as client:
        files = {"image": saved(RED)}
        reply = await client.post("/v1/images/edits", data=fields, files=files)
        assert reply.status_code == 200, reply.text
        for name, text in (("eta", "half"), ("clip_skip", "1.5"), ("guess_mode", "yes")):
            data = {"prompt": "a", name: text}
            reply = await client.post("/v1/images/edits", data=data, files=files)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
    ((_, inputs),) = door.service.asked
    assert inputs.params == {"prompt": "a", "eta": 0.5, "sigmas": [1.0, 0.5], "prompt_2": "7"}


@pytest.mark.parametrize("name", ["{}", "{}[]"])
async def test_a_list_in_a_form_is_what_came_under_one_name(name: str) -> None:
    """As clients write it: curl and httpx repeat the name, the openai package says `name[]`."""
    more = [*RICH.parameters, Parameter("words", "str | list[str]", required=False)]
    door = Door(model=msgspec.structs.replace(RICH, parameters=more, pictures=["image"]))
    own = {"image": saved(RED)}
    async with door.client() as client:
        for given in ({"sigmas": ["1", "0.5"]}, {"scale": ["0.5", "0.8"], "words": ["7", "a"]}):
            lists = {name.format(each): texts for each, texts in given.items()}
            data = {"prompt": "a", **lists}
            reply = await client.post("/v1/images/edits", data=data, files=own)
            assert reply.status_code == 200, reply.text
        for field, texts in (("eta", ["0.1", "0.2"]), ("prompt", ["a", "b"]), ("loras", ["[]"])):
            data = {"prompt": "a", name.format(field): [*texts, *texts]}
            reply = await client.post("/v1/images/edits", data=data, files=own)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert [inputs.params for _, inputs in door.service.asked] == [
        {"prompt": "a", "sigmas": [1.0, 0.5]},
        {"prompt": "a", "scale": [0.5, 0.8], "words": ["7", "a"]},
    ]


async def test_one_of_a_list_in_a_form_is_a_list() -> None:
    door = Door(model=msgspec.structs.replace(RICH, pictures=["image"]))
    async with door.client() as client:
        data = {"prompt": "a", "sigmas[]": "1"}
        await client.post("/v1/images/edits", data=data, files={"image": saved(RED)})
    ((_, inputs),) = door.service.asked
    assert inputs.params["sigmas"] == [1.0]


async def test_an_object_that_was_taken_apart_is_told_how_to_write_it() -> None:
    door = Door(model=msgspec.structs.replace(RICH, pictures=["image"]))
    async with door.client() as client:
        data = {"prompt": "a", "loras[][name]": "ink"}
        reply = await client.post("/v1/images/edits", data=data, files={"image": saved(RED)})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "loras[][name]")
    assert "as JSON in `name`" in error["message"]


async def test_json_in_a_form_that_is_too_deep_is_refused() -> None:
    door = Door(model=msgspec.structs.replace(RICH, pictures=["image"]))
    async with door.client() as client:
        data = {"prompt": "a", "loras": "[" * 100_000}
        reply = await client.post("/v1/images/edits", data=data, files={"image": saved(RED)})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "loras")


async def test_other_arguments_are_part_of_what_has_to_be_the_same() -> None:
    door = Door(model=RICH)
    async with door.client() as client:
        key = {"idempotency-key": "k"}
        for eta, status in ((0.5, 202), (0.5, 202), (0.6, 422)):
            body = {"prompt": "a", "eta": eta}
            assert (await client.post("/v1/jobs", json=body, headers=key)).status_code == status


VALUES: list[Any] = [0, 1, -3, 0.5, 2.0, 1e30, 2**64, True, "a", ""]
LISTS: list[Any] = [[], [1], [1.5, [2]], ["a"], [True], [[[]]]]
TYPES = ["int", "float", "bool", "str", "list[int]", "list[float]", "list[str]", "int | list[int]"]


def taken(parameter: Parameter, value: Any) -> Any:
    """The value, or None if it is refused."""
    try:
        return accept(parameter, value)
    except ApiError:
        return None


@pytest.mark.parametrize("type", [*TYPES, "float | list[float]", "bool | list[bool]"])
@pytest.mark.parametrize("name", ["x", "eta", "num_inference_steps"])
def test_schema_and_check_say_the_same(type: str, name: str) -> None:
    parameter = Parameter(name, type, required=False)
    found = Draft202012Validator(schema_of(parameter))
    for value in VALUES + LISTS:
        expected = value if found.is_valid(value) else None
        assert taken(parameter, value) == expected


def test_a_default_beyond_a_known_range_means_another_thing() -> None:
    assert accept(Parameter("eta", "float", required=False, default=7.0), 9.0) == 9.0
