"""Every error that a client can see, in the body that OpenAI's clients read.

`{"error": {"message", "type", "param", "code"}}`. The SDK maps the status to its exception class
and obeys `x-should-retry`, `retry-after` and `retry-after-ms`.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from starlette.responses import Response

from transfer.messages import ErrorInfo

ErrorType = Literal["invalid_request_error", "rate_limit_error", "server_error"]

STATUS_OF_KIND: dict[str, int] = {
    "invalid_request": 400,
    "payload_too_large": 413,
    "unsupported": 422,
    "cancelled": 499,
    "payload": 500,
    "rank_failed": 500,
    "rank_died": 500,
    "transfer_failed": 500,
    "internal": 500,
    "instance_lost": 503,
    "stalled": 504,
    "deadline": 504,
}
# The SDK retries every 5xx by itself. Behind these there is a computation that was already paid
# for and would most likely end the same way; only 503 means "nothing was wrong with the request".
NEVER_RETRY = frozenset({499, 500, 504})


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: ErrorType
    param: str | None = None
    code: str | None = None


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every reply with a status of 400 or more."""

    error: ErrorBody


class ApiError(Exception):
    """An error that is told to the client: `status`, what happened, which field, a short code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(self.message, type_of_status(self.status), self.param, self.code)

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.status in NEVER_RETRY:
            headers["x-should-retry"] = "false"
        return Response(
            msgspec.json.encode(ErrorReply(self.body)),
            status_code=self.status,
            headers=headers,
            media_type="application/json",
        )


class ClientGone(Exception):
    """The client closed its connection; nobody is left to be told anything."""


def type_of_status(status: int) -> ErrorType:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 499 else "invalid_request_error"


def bad_field(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400: this field is wrong."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, message: str) -> ApiError:
    """422: the field is right, but the model behind this door cannot do it."""
    return ApiError(422, message, param=param, code="unsupported")


def busy(retry_after_s: float) -> ApiError:
    message = "the queue is full; try again after the time in Retry-After"
    return ApiError(429, message, code="queue_full", headers=retry_after(retry_after_s))


def not_ready(
    missing: Sequence[str], asleep: Sequence[str] = (), model: str | None = None
) -> ApiError:
    """`asleep`: roles among them of which an instance sleeps. `model`: whose roles these are, where
    that is not plain."""
    roles = ", ".join(role for role in missing if role not in asleep)
    lacking = [f"no live instance of {roles or 'every role'}"] if roles or not asleep else []
    if asleep:
        lacking.append(f"the instances of {', '.join(asleep)} sleep, until `wake` is called")
    whose = f" (of `{model}`)" if model else ""
    message = f"not ready: {'; '.join(lacking)}{whose}"
    return ApiError(503, message, code="not_ready", headers=retry_after(2.0))


def stopping() -> ApiError:
    message = "the server is stopping, and this took longer than it could wait; try again"
    return ApiError(503, message, code="stopping", headers=retry_after(5.0))


def key_reused(job: str) -> ApiError:
    """422, as the IETF's draft of the header has it: no retry will end differently."""
    message = f"this Idempotency-Key belongs to another request, which is {job}; draw a new key"
    return ApiError(422, message, param="Idempotency-Key", code="idempotency_key_reused")


def not_written(reason: str) -> ApiError:
    message = f"nothing was accepted, because it could not be written to the journal: {reason}"
    return ApiError(503, message, code="journal_down", headers=retry_after(5.0))


def unhealthy() -> ApiError:
    message = "a loop of the orchestrator has stopped; its log says why"
    return ApiError(503, message, code="unhealthy")


def failed(error: ErrorInfo) -> ApiError:
    """What a role or the core said, with its place; the traceback stays in our log."""
    return ApiError(
        STATUS_OF_KIND[error.kind],
        error.message + _place(error),
        param=error.param,
        code=error.kind,
        headers=retry_after(1.0) if error.kind == "instance_lost" else None,
    )


_PLAIN = {
    400: ("invalid_request", "the request is malformed"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this method is not allowed here"),
    416: ("bad_range", "the requested range is not in the file"),
}


def plain(status: int, request: str, headers: dict[str, str] | None = None) -> ApiError:
    """An error of the web server itself; `request`: "GET /path"."""
    code, text = _PLAIN.get(status, (None, "the request failed"))
    hint = "; GET /openapi.json lists what there is" if status == 404 else ""
    return ApiError(status, f"{text}: {request[:200]}{hint}", code=code, headers=headers)


def retry_after(seconds: float) -> dict[str, str]:
    """`retry-after` in whole seconds for everyone, and in milliseconds for those who read it."""
    seconds = max(seconds, 0.001)
    return {
        "retry-after": str(math.ceil(seconds)),
        "retry-after-ms": str(math.ceil(seconds * 1000)),
    }


def _place(error: ErrorInfo) -> str:
    if error.instance is None:
        return ""
    rank = "" if error.rank is None else f", rank {error.rank}"
    return f" (instance {error.instance}{rank})"
