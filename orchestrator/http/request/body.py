"""Request bodies read within a bound, and the JSON around streamed files, of a known length."""

import asyncio

import msgspec
import pybase64
from starlette.requests import ClientDisconnect, Request

from orchestrator.http.errors import ApiError, ClientGone
from orchestrator.http.request.schema import ImagesReply


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, chunked or not. Raises 413 as soon as it is known to exceed `limit` bytes, and 408
    if it has not come within `seconds`."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        message = f"the body has not come within {seconds:g} s"
        raise ApiError(408, message, code="body_timeout") from None
    return bytes(body)


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")


class Base64:
    """Base64 of a file that is fed in chunks of any length, without line breaks."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        data = self._rest + chunk
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        return pybase64.b64encode(memoryview(data)[:whole])

    def finish(self) -> bytes:
        return pybase64.b64encode(self._rest)

    @staticmethod
    def length(nbytes: int) -> int:
        return (nbytes + 2) // 3 * 4


class Frame:
    """What stands around the base64 of each file: `{…,"data":[{"b64_json":"` … `"}]}`.

    `head`, then for each file `opening(i)`, its base64 and `CLOSING`, then `tail`: exactly
    `length(sizes)` bytes, the Content-Length.
    """

    CLOSING = b'"}'

    def __init__(self, reply: ImagesReply) -> None:
        empty = msgspec.json.encode(reply)
        assert empty.endswith(b'"data":[]}')
        self.head, self.tail = empty[:-2], empty[-2:]

    @staticmethod
    def opening(index: int) -> bytes:
        return b'{"b64_json":"' if index == 0 else b',{"b64_json":"'

    def length(self, sizes: list[int]) -> int:
        frames = sum(len(self.opening(i)) + len(self.CLOSING) for i in range(len(sizes)))
        return len(self.head) + frames + sum(map(Base64.length, sizes)) + len(self.tail)
