"""One finished file as the body of a reply."""

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from orchestrator.http.gone import until_gone
from orchestrator.http.media.reading import Reading
from orchestrator.http.streaming.turns import give_way
from transfer.threads import in_thread


class Download(msgspec.Struct, frozen=True):
    """Files on this machine are served with ranges (a video player asks for them); what lies
    elsewhere is streamed as a whole."""

    mime: str
    nbytes: int
    path: Path | None

    async def response(
        self, method: str, chunks: Callable[[], AsyncGenerator[bytes, None]]
    ) -> Response:
        """Raises `FileNotFoundError` or `MediaError` while it can still be told."""
        if self.path is not None:
            stat = await in_thread(os.stat, self.path)
            return _File(self.path, headers=HEADERS, media_type=self.mime, stat_result=stat)
        headers = {**HEADERS, "content-length": str(self.nbytes), "accept-ranges": "none"}
        if method == "HEAD":
            return Response(headers=headers, media_type=self.mime)
        return await _Streamed.begin(Reading(chunks(), self.nbytes), headers, self.mime)


HEADERS = {
    "cache-control": "private, max-age=3600, immutable",
    "content-disposition": "inline",
    "x-content-type-options": "nosniff",
}


class _File(FileResponse):
    """Each chunk is read by a thread, and that costs as much as sending it; of 64 KiB, as they are
    by default, the event loop spends four times as long on a large file."""

    chunk_size = 256 << 10


class _Streamed(Response):
    """Chunk by chunk, as fast as the client takes them."""

    def __init__(self, reading: Reading, headers: dict[str, str], mime: str) -> None:
        super().__init__(headers=headers, media_type=mime)
        self._reading = reading

    @classmethod
    async def begin(cls, reading: Reading, headers: dict[str, str], mime: str) -> "_Streamed":
        try:
            await reading.prime()
        except BaseException:
            await reading.close()
            raise
        return cls(reading, headers, mime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._send(send))
        finally:
            await self._reading.close()

    async def _send(self, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        while chunk := await self._reading.next():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await give_way()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
