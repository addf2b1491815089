"""`loras` of a request: which adapters it has on, and what is refused."""

import json
from typing import Any

import pytest

from orchestrator.http import HttpOptions
from orchestrator.http.errors import ApiError
from orchestrator.http.request.decoding import decode
from orchestrator.http.request.plan import make_plan
from orchestrator.http.request.schema import ImageRequest
from tests.support.front_door import MODEL, Door
from transfer.actions import Adapter
from transfer.messages import Lora

LOADED = {
    "a": Adapter("a", "/a", 0.5, "d1"),
    "b": Adapter("b", "/b", 0.0, "d2"),
    "c": Adapter("c", "/c", 1.0, "d3"),
}


def worn(**fields: Any) -> list[Lora]:
    request = decode(json.dumps({"prompt": "a star", **fields}).encode(), ImageRequest)
    return make_plan(request, MODEL, HttpOptions(), LOADED).inputs[0].loras


def test_who_names_none_has_on_what_was_loaded_to_be_on() -> None:
    assert worn() == worn(loras=None) == [Lora("a", 0.5), Lora("c", 1.0)]


def test_who_names_some_has_on_those_and_in_that_order() -> None:
    assert worn(loras=[]) == []
    chosen = worn(loras=[{"name": "c", "scale": 2}, {"name": "a"}, {"name": "b"}])
    assert chosen == [Lora("c", 2.0), Lora("a", 0.5), Lora("b", 0.0)]


@pytest.mark.parametrize(
    ("loras", "words"),
    [
        ([{"name": "d"}], "there is no adapter 'd'; loaded: a, b, c"),
        ([{"name": "a"}, {"name": "a"}], "'a' is there twice"),
        ([{"name": "a", "scale": 1000}], "<= 100"),
        ([{"scale": 1}], "missing required field name"),
        ("a", "expected array"),
    ],
)
def test_wrong_ones_are_named(loras: Any, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        worn(loras=loras)
    assert (refused.value.status, refused.value.param) == (400, "loras")
    assert words in refused.value.message


async def test_the_door_knows_what_is_loaded() -> None:
    door = Door()
    door.service.loaded = LOADED
    body = {"prompt": "a star", "loras": [{"name": "b", "scale": 3}]}
    async with door.client() as client:
        for path in ("/v1/images/generations", "/v1/jobs"):
            reply = await client.post(path, json=body)
            assert reply.status_code in (200, 202)
            refused = await client.post(path, json={**body, "loras": [{"name": "d"}]})
            assert refused.json()["error"]["code"] == "unknown_adapter"
    ((_, inputs),) = door.service.asked
    assert inputs.loras == [Lora("b", 3.0)]
