"""Who may come in, and how often: API keys and the rate limit, before anything is read."""

import ipaddress
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api_keys import ApiKeys, Owner
from orchestrator.http.errors import ApiError, retry_after
from orchestrator.http.meter import Meter, Verdict

OPEN = frozenset({"/health", "/ready"})  # probes of load balancers have no keys
METERED = frozenset({"POST"})  # what makes work; reading is free


class Doors:
    """ASGI middleware inside the envelope, which turns what it raises into replies.

    `scope["state"]["caller"]` is the hash of the caller's key, or None where there are no keys.
    Requests that make work are counted by key; without keys, by the client's address (of IPv6 the
    first 64 bits: that much belongs to one client).
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys | None,
        meter: Meter | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._keys, self._meter, self._clock = app, keys, meter, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        owner = _admitted(self._keys, scope) if self._keys is not None else None
        scope.setdefault("state", {})["caller"] = owner.hash if owner else None
        if self._meter is not None and scope["method"] in METERED:
            send = self._counted(self._meter, owner, scope, send)
        await self._app(scope, receive, send)

    def _counted(self, meter: Meter, owner: Owner | None, scope: Scope, send: Send) -> Send:
        verdict = meter.ask(owner.hash if owner else _address(scope), self._clock())
        told = _told(meter.limit, verdict)
        if not verdict.allowed:
            raise _too_often(meter.limit, verdict, told)
        headers = [(name.encode(), value.encode()) for name, value in told.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        return with_headers


def caller_of(scope: Scope) -> str | None:
    """The hash of the key with which this request came in; None where no keys are asked for."""
    caller: str | None = scope.get("state", {}).get("caller")
    return caller


def _admitted(keys: ApiKeys, scope: Scope) -> Owner:
    key = _bearer(scope)
    if key is None:
        raise _unauthorized("an API key is needed: send the header Authorization: Bearer KEY")
    owner = keys.owner(key)
    if owner is None:
        raise _unauthorized("this API key is not valid here")
    return owner


def _bearer(scope: Scope) -> bytes | None:
    """The key, whatever bytes a stranger sends for it."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            return key.strip() or None if scheme.lower() == b"bearer" else None
    return None


def _unauthorized(message: str) -> ApiError:
    headers = {"www-authenticate": 'Bearer realm="triptych"'}
    return ApiError(401, message, code="invalid_api_key", headers=headers)


def _too_often(limit: int, verdict: Verdict, told: dict[str, str]) -> ApiError:
    message = (
        f"too many requests (at most {limit} at once); try again after {verdict.retry_s:.3g} s"
    )
    headers = {**told, **retry_after(verdict.retry_s)}
    return ApiError(429, message, code="rate_limit_exceeded", headers=headers)


def _told(limit: int, verdict: Verdict) -> dict[str, str]:
    """Named as OpenAI names them; the reset is when all may come at once again."""
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(verdict.remaining),
        "x-ratelimit-reset-requests": f"{verdict.reset_s:.3f}s",
    }


def _address(scope: Scope) -> str:
    host = (scope.get("client") or ("unknown", 0))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
