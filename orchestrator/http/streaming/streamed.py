"""An images reply whose pictures pass through in chunks: as fast as the client takes them."""

from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.http.gone import until_gone
from orchestrator.http.media.reading import Reading
from orchestrator.http.request.body import Base64, Frame
from orchestrator.http.request.schema import ImagesReply
from orchestrator.http.streaming.turns import give_way

PIECE_BYTES = 64 << 10  # smaller pieces are joined up to this: fewer writes to the socket


class Files(Protocol):
    """The files of a reply in order: `orchestrator.http.media.files.Files`, or those of a job."""

    @property
    def sizes(self) -> list[int]: ...

    def open(self, index: int) -> Reading: ...

    async def release(self) -> None: ...


class StreamedImages(Response):
    """The files' base64 inside the JSON of the reply. The Content-Length is exact, so a file that
    breaks off in the middle is a reply that visibly broke off, never a shorter picture.

    At most one chunk is held; the next is read when the client has taken this one. The files are
    given back in the end, whichever it is.
    """

    def __init__(self, frame: Frame, headers: dict[str, str], files: Files, first: Reading) -> None:
        length = frame.length(files.sizes)
        super().__init__(
            headers={**headers, "content-length": str(length)}, media_type="application/json"
        )
        self._frame, self._files, self._first = frame, files, first

    @classmethod
    async def begin(
        cls, reply: ImagesReply, headers: dict[str, str], files: Files
    ) -> "StreamedImages":
        """Raises `MediaError` while it can still be told that the first file is not there."""
        first = files.open(0)
        try:
            await first.prime()
        except BaseException:
            await first.close()
            raise
        return cls(Frame(reply), headers, files, first)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = self._send(Writer(send))
        try:
            if self._all_here:
                await sending  # waits for nobody but the client
            else:
                await until_gone(receive, sending)
        finally:
            await self._first.close()
            await self._files.release()

    @property
    def _all_here(self) -> bool:
        """A single small picture: it came in one chunk, which was read ahead."""
        return len(self._files.sizes) == 1 and self._first.complete

    async def _send(self, writer: "Writer") -> None:
        await writer.start(self.status_code, self.raw_headers)
        await writer.write(self._frame.head)
        for i in range(len(self._files.sizes)):
            await writer.write(self._frame.opening(i))
            await self._send_file(writer, i)
            await writer.write(self._frame.CLOSING)
        await writer.write(self._frame.tail, last=True)

    async def _send_file(self, writer: "Writer", i: int) -> None:
        reading = self._files.open(i) if i else self._first
        base64 = Base64()
        try:
            while chunk := await reading.next():
                await writer.write(base64.feed(chunk))
        finally:
            await reading.close()
        await writer.write(base64.finish())


class Writer:
    """Sends a body in pieces of `PIECE_BYTES` or more, or up to where it is told to `flush`. Waits
    while the client does not read."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting = bytearray()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes, last: bool = False, flush: bool = False) -> None:
        if self._waiting or len(piece) < PIECE_BYTES:
            self._waiting += piece
            if len(self._waiting) < PIECE_BYTES and not (last or flush):
                return
            piece = bytes(self._waiting)
            self._waiting.clear()
        await self._send({"type": "http.response.body", "body": piece, "more_body": not last})
        # To a client that is gone, sending succeeds at once; let its going be noticed.
        if not last:
            await give_way()
