import base64
import json

import pytest

from launch.addresses import free_port
from launch.client import Client, RequestError
from launch.errors import LaunchError
from tests.support.canned_server import Canned

IMAGES = "POST /v1/images/generations"


def test_images_are_decoded_with_seed_and_timings(canned: Canned) -> None:
    data = [{"b64_json": base64.b64encode(text).decode()} for text in (b"one", b"two")]
    timings = {"queue_s": 0.5, "total_s": 2.0}
    headers = {"x_triptych_seed": "7", "x_triptych_timings": json.dumps(timings)}
    canned.answer(IMAGES, 200, {"created": 1, "data": data}, **headers)
    with Client(canned.url + "/") as client:
        images = client.images({"prompt": "a star", "n": 2})
    assert images.files == [b"one", b"two"]
    assert (images.seed, images.timings) == (7, timings)
    [(_, _, body)] = canned.asked
    assert body == {"prompt": "a star", "n": 2, "response_format": "b64_json"}


def test_an_error_keeps_its_message_status_and_code(canned: Canned) -> None:
    error = {"message": "size: 7x7 is\nno multiple of 8", "param": "size", "code": "bad_size"}
    canned.answer(IMAGES, 400, {"error": error})
    with (
        Client(canned.url) as client,
        pytest.raises(RequestError, match=r"^size: 7x7 is no multiple of 8$") as caught,
    ):
        client.images({"prompt": "x"})
    assert (caught.value.status, caught.value.code) == (400, "bad_size")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": "text"}', b'{"error": null}'])
def test_an_error_page_of_somebody_else_is_told_by_its_status(canned: Canned, body: bytes) -> None:
    canned.answer("GET /v1/cluster", 502, body)
    with (
        Client(canned.url) as client,
        pytest.raises(RequestError, match="answered 502 Bad Gateway") as caught,
    ):
        client.cluster()
    assert caught.value.status == 502


def test_names_are_quoted_in_addresses(canned: Canned) -> None:
    path = "/v1/cluster/instances/a%2Fb%20c"
    canned.answer(f"POST {path}/drain", 202, {})
    canned.answer(f"DELETE {path}", 200, {})
    with Client(canned.url) as client:
        client.drain("a/b c")
        client.remove("a/b c")
    assert [path for _, path, _ in canned.asked] == [f"{path}/drain", path]


def test_a_key_goes_with_every_call(canned: Canned) -> None:
    canned.answer("GET /v1/cluster", 200, {})
    with Client(canned.url, api_key="tk-1") as client:
        client.cluster()
    with Client(canned.url) as client:
        client.cluster()
    assert canned.keys == ["Bearer tk-1", None]


def test_a_missing_key_says_how_to_give_it(canned: Canned) -> None:
    error = {"message": "an API key is needed", "code": "invalid_api_key"}
    canned.answer("GET /v1/cluster", 401, {"error": error})
    with (
        Client(canned.url) as client,
        pytest.raises(RequestError, match=r"needed \(--api-key or TRIPTYCH_API_KEY\)$"),
    ):
        client.cluster()


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with Client(url) as client, pytest.raises(RequestError, match=f"no cluster answers at {url}"):
        client.cluster()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://[::1", "http://x:port"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(LaunchError, match=r"is no URL of a cluster"):
        Client(url)


def test_a_proxy_is_never_used_for_this_machine(
    canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    canned.answer("GET /v1/cluster", 200, {"roles": {}})
    with Client(canned.url) as client:
        assert client.cluster() == {"roles": {}}
