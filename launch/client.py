"""A cluster's front door, as the command line and `Cluster` call it."""

import base64
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx

from launch.addresses import DEFAULT_URL
from launch.errors import LaunchError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONNECT_S = 5.0


class RequestError(LaunchError):
    """The cluster refused or failed a request. `status`: HTTP's, or None if it did not answer."""

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Images:
    """The files of one request in order, the first one's seed, and seconds by stage."""

    files: list[bytes]
    seed: int
    timings: dict[str, float]


class Client:
    """Calls one orchestrator over HTTP. Every failure is a `RequestError` of one line. `api_key`:
    for a cluster that was started with --api-keys."""

    def __init__(
        self, url: str, timeout_s: float | None = None, api_key: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            trust_env=_host(url) not in _LOOPBACK,  # no proxy to this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def images(self, fields: dict[str, Any]) -> Images:
        """POST /v1/images/generations; `fields` as in docs/client.md."""
        body = {**fields, "response_format": "b64_json"}
        reply = self._call("POST", "/v1/images/generations", json=body)
        return Images(
            files=[base64.b64decode(item["b64_json"]) for item in reply.json()["data"]],
            seed=int(reply.headers["x-triptych-seed"].split(",")[0]),
            timings=json.loads(reply.headers["x-triptych-timings"]),
        )

    def cluster(self) -> dict[str, Any]:
        """GET /v1/cluster."""
        view: dict[str, Any] = self._call("GET", "/v1/cluster").json()
        return view

    def drain(self, name: str) -> None:
        self._call("POST", f"/v1/cluster/instances/{quote(name, safe='')}/drain")

    def remove(self, name: str) -> None:
        self._call("DELETE", f"/v1/cluster/instances/{quote(name, safe='')}")

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, **options)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            hint = "is it running? (triptych up --model …)"
            raise RequestError(f"no cluster answers at {self.url}; {hint}") from error
        except httpx.TimeoutException as error:
            raise RequestError(f"no answer from {self.url} within the time limit") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestError(f"{self.url}: {str(error) or type(error).__name__}") from error
        if reply.is_error:
            raise _refusal(reply)
        return reply


def _host(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise LaunchError(f"{url!r} is no URL of a cluster; write for example {DEFAULT_URL}")
    return parts.host


def _refusal(reply: httpx.Response) -> RequestError:
    """The OpenAI error body as an exception; other bodies (a proxy's page) by their status."""
    try:
        error = reply.json()["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = f"{reply.url} answered {reply.status_code} {reply.reason_phrase}", None
    if code == "invalid_api_key":
        message += " (--api-key or TRIPTYCH_API_KEY)"
    return RequestError(" ".join(message.split()), reply.status_code, code)
