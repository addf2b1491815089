"""Which bodies are understood, and what is said about the others."""

import json

import msgspec
import pytest

from orchestrator.http.errors import ApiError
from orchestrator.http.request.decoding import decode
from orchestrator.http.request.schema import MAX_SEED, ImageRequest, ImagesReply


def refused(body: bytes | dict[str, object]) -> ApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        decode(raw, ImageRequest)
    assert caught.value.status == 400
    return caught.value


def test_every_field_that_the_sdk_may_send_as_null_is_taken() -> None:
    names = [name for name in ImageRequest.__struct_fields__ if name != "prompt"]
    request = decode(json.dumps({"prompt": "a", **dict.fromkeys(names)}).encode(), ImageRequest)
    assert request == ImageRequest(prompt="a")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("n", "1", "expected int"),
        ("n", True, "expected int"),
        ("n", 0, ">= 1"),
        ("n", 11, "<= 10"),
        ("n", 1.5, "expected int"),
        ("prompt", "", "length >= 1"),
        ("prompt", 7, "expected str"),
        ("prompt", ["a"], "expected str"),
        ("prompt", "x" * 32_001, "length <= 32000"),
        ("size", 512, "expected str"),
        ("response_format", "png", "one of b64_json, url"),
        ("output_format", "gif", "jpeg"),
        ("output_compression", 101, "<= 100"),
        ("quality", "ultra", "hd"),
        ("priority", "urgent", "one of high, low, normal"),
        ("background", "blue", "transparent"),
        ("style", 1, "vivid"),
        ("num_inference_steps", 0, ">= 1"),
        ("num_inference_steps", 1001, "<= 1000"),
        ("guidance_scale", -1, ">= 0"),
        ("guidance_scale", "high", "expected float"),
        ("seed", -1, ">= 0"),
        ("seed", MAX_SEED + 1, "<= 9223372036854775807"),
        ("seed", 10**40, "<="),
        ("exact", "yes", "expected bool"),
        ("fps", 0, ">"),
        ("strength", 1.5, "<= 1"),
        ("partial_images", 4, "<= 3"),
    ],
)
def test_a_wrong_value_names_its_field(field: str, value: object, words: str) -> None:
    error = refused({"prompt": "a", field: value})
    assert error.param == field
    assert field in error.message
    assert words in error.message


@pytest.mark.parametrize("name", ["steps", "Prompt", "lora", "pröm`pt", "$", "", "x" * 5000])
def test_an_unknown_field_is_named(name: str) -> None:
    error = refused({"prompt": "a", name: {"deep": [1]}})
    assert error.code == "unknown_field"
    assert error.param == name[:64]
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": "a"} x',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": ' + b"[" * 200_000,
        b"\x00" * 100,
        b"prompt=a&n=1",
    ],
)
def test_what_is_not_json_is_said_to_be_so(body: bytes) -> None:
    assert refused(body).param in (None, "prompt")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"prompt"', b"[" * 100_000])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert refused(body).param is None


def test_an_infinite_number_is_refused() -> None:
    assert refused(b'{"prompt": "a", "guidance_scale": 1e999}').param == "guidance_scale"


def test_numbers_keep_their_kind() -> None:
    request = decode(b'{"prompt": "a", "fps": 8, "guidance_scale": 4}', ImageRequest)
    assert type(request.fps) is int
    assert type(request.guidance_scale) is float


def test_only_given_fields_reach_the_pipeline() -> None:
    request = decode(
        b'{"prompt": "a", "num_inference_steps": 4, "user": "u", "seed": 1}', ImageRequest
    )
    assert request.pipeline_params() == {"prompt": "a", "num_inference_steps": 4}


def test_the_reply_ends_with_its_data() -> None:
    """It is streamed: orchestrator/http/request/body.py opens the last list of this JSON."""
    reply = ImagesReply(created=1, size="1x1", quality="high", output_format="png")
    assert msgspec.json.encode(reply).endswith(b'"data":[]}')
