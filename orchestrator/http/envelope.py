"""What every reply has in common: an id, an OpenAI error body, a bound on waiting, a count."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.http.errors import ApiError, ClientGone, plain, stopping
from orchestrator.http.faults import to_api_error

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
Report = Callable[[Scope, int, float], None]


class Envelope:
    """ASGI middleware around the whole front door.

    - draws the request's id (`scope["state"]["request_id"]`, header `x-request-id`);
    - turns every exception into an OpenAI error; nothing but `ApiError` tells the client more than
      "internal error" and the id under which our log has the rest;
    - tells requests that the server's end cuts off, which is `leaving` then, to come again;
    - gives an OpenAI body to errors that others wrote as plain text;
    - cuts a client that has taken nothing for `stall_s` seconds;
    - calls `report(scope, status, seconds)` once per request; 499 when the client went away.
    """

    def __init__(
        self, app: ASGIApp, report: Report, stall_s: float, leaving: asyncio.Event
    ) -> None:
        self._app = app
        self._report = report
        self._stall_s = stall_s
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        reply = _Reply(send, scope, self._stall_s)
        try:
            await self._answer(scope, receive, reply)
        finally:
            self._report(scope, reply.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        try:
            await self._app(scope, receive, reply.send)
        except ClientGone as gone:
            if not reply.complete:
                reply.status = 499
                reason = f": it {gone}" if str(gone) else ""
                log.info("%s: the client went away%s", reply.request_id, reason)
        except asyncio.CancelledError:
            if not self._leaving.is_set():
                raise
            await self._refuse(stopping(), scope, receive, reply)
        except Exception as error:
            await self._refuse(to_api_error(error, reply.request_id), scope, receive, reply)

    async def _refuse(
        self, told: ApiError, scope: Scope, receive: Receive, reply: "_Reply"
    ) -> None:
        if not reply.started:
            await told.response()(scope, receive, reply.send)
            return
        # The status is out, only a broken connection can still say that something is wrong:
        # a server cuts a reply that was begun and not completed.
        reply.status = told.status
        log.warning("%s: reply cut off: %s", reply.request_id, told.message)


class _Reply:
    """One reply on its way out."""

    def __init__(self, send: Send, scope: Scope, stall_s: float) -> None:
        self.status = 499  # until something is sent
        self.started = self.complete = False
        self.request_id = f"req_{secrets.token_hex(12)}"
        self._send, self._stall_s = send, stall_s
        self._replaces_body = False
        self._describe = f"{scope['method']} {scope['path']}"
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            for each in self._begin(message):
                await self._bounded(each)
        elif not self._replaces_body:
            await self._bounded(message)

    async def _bounded(self, message: Message) -> None:
        self.complete = message["type"] == "http.response.body" and not message.get("more_body")
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGone(f"took nothing for {self._stall_s} s") from None

    def _begin(self, message: Message) -> Iterable[Message]:
        self.started, self.status = True, message["status"]
        headers: Headers = [*message.get("headers", []), self._id_header]
        if self.status >= 400 and not _is_json(headers):
            self._replaces_body = True
            return self._openai(headers)
        return [{**message, "headers": headers}]

    def _openai(self, headers: Headers) -> list[Message]:
        """The same status and headers, with a body as OpenAI's clients expect it."""
        response = plain(self.status, self._describe).response()
        own = {name for name, _ in response.raw_headers}
        kept = [(name, value) for name, value in headers if name.lower() not in own]
        head = {"status": self.status, "headers": [*response.raw_headers, *kept]}
        return [
            {"type": "http.response.start", **head},
            {"type": "http.response.body", "body": bytes(response.body), "more_body": False},
        ]

    @property
    def _id_header(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self.request_id.encode()


def _is_json(headers: Headers) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"application/json")
        for name, value in headers
    )
