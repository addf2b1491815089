"""What a request says of speed, and what the reply tells of it."""

from typing import Any

import msgspec
import pytest

from orchestrator.http.errors import ApiError
from orchestrator.http.options import HttpOptions
from orchestrator.http.request.decoding import decode
from orchestrator.http.request.plan import make_plan
from orchestrator.http.request.schema import ImageRequest
from orchestrator.http.request.speed import speed_header
from tests.support.front_door import MODEL
from transfer.messages import ModelInfo, Speed, StepCache

replace = msgspec.structs.replace
FAST = replace(MODEL, step_caches=["first_block", "pyramid"], speed=Speed())
FIRST_BLOCK = StepCache("first_block", threshold=0.05)


def asked(model: ModelInfo = FAST, **fields: Any) -> StepCache | None:
    body = msgspec.json.encode({"prompt": "a", **fields})
    (inputs,) = make_plan(decode(body, ImageRequest), model, HttpOptions()).inputs
    return inputs.step_cache


def refused(model: ModelInfo = FAST, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asked(model, **fields)
    return caught.value


def test_a_step_cache_is_completed_and_passed_on() -> None:
    assert asked() is None
    assert asked(step_cache=None) is None
    assert asked(step_cache={"type": "first_block"}) == FIRST_BLOCK
    assert asked(step_cache={"type": "pyramid", "interval": 4}) == StepCache("pyramid", interval=4)
    assert asked(MODEL, step_cache={"type": "none"}) == StepCache("none")


@pytest.mark.parametrize(
    "cache",
    [
        {},
        "first_block",
        {"type": "fast"},
        {"type": "first_block", "interval": 3},
        {"type": "first_block", "threshold": 7},
        {"type": "pyramid", "interval": 1},
        {"type": "pyramid", "more": 1},
    ],
)
def test_what_is_none_is_a_bad_field(cache: Any) -> None:
    error = refused(step_cache=cache)
    assert error.status == 400


def test_the_bad_field_is_named() -> None:
    error = refused(step_cache={"type": "pyramid", "interval": 1})
    assert (error.param, error.message) == (
        "step_cache",
        "`step_cache`: interval must be 2 to 100 steps, not 1",
    )


def test_what_the_model_does_not_have_is_unsupported() -> None:
    error = refused(step_cache={"type": "taylorseer"})
    assert (error.status, error.param) == (422, "step_cache")
    assert "has no taylorseer; it has none, first_block, pyramid" in error.message


@pytest.mark.parametrize(
    ("speed", "fields", "words"),
    [
        (Speed(compile=True), {}, "compile, with which the denoisers of this server were started"),
        (Speed(quantize="int8"), {}, "quantize=int8, with which"),
        (Speed(attention="flex"), {}, "attention-backend=flex, with which"),
        (Speed(step_cache=FIRST_BLOCK), {}, 'by itself; add "step_cache": {"type": "none"}'),
        (Speed(), {"step_cache": {"type": "first_block"}}, "first_block:0.05; leave out one"),
    ],
)
def test_exact_names_what_is_in_its_way(speed: Speed, fields: dict[str, Any], words: str) -> None:
    error = refused(replace(FAST, speed=speed), exact=True, **fields)
    assert (error.status, error.param) == (422, "exact")
    assert words in error.message
    assert asked(replace(FAST, speed=speed), exact=False, **fields) is not False


def test_exact_goes_with_what_changes_nothing() -> None:
    assert asked(exact=True) is None
    assert asked(replace(FAST, speed=Speed(dtype="bfloat16")), exact=True) is None
    default = replace(FAST, speed=Speed(step_cache=FIRST_BLOCK))
    assert asked(default, exact=True, step_cache={"type": "none"}) == StepCache("none")


def test_the_header_is_one_line_whatever_an_instance_says() -> None:
    assert speed_header([None, None]) == {}
    assert speed_header(["compile", None, "compile"]) == {"x-triptych-speed": "compile"}
    assert speed_header(["a\r\nset-cookie: b", "é"]) == {"x-triptych-speed": "aset-cookie: b; "}
    assert len(speed_header(["x" * 10_000])["x-triptych-speed"]) == 500
