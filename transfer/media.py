"""Finished files: served by the instance that made them, read in bounded pieces by the front door.

This is the way between hosts; on one host, `transfer.local` is the shorter one.

Server: a ROUTER socket at the endpoint. Client: a DEALER that asks for pieces of 256 KiB,
at most four of them ahead of each reader, so whoever reads slowly is sent little.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, Self, cast

import zmq
import zmq.asyncio

from transfer import contexts
from transfer.codec import Message, ProtocolError, encode
from transfer.errors import MediaError
from transfer.guard import SEAL_BYTES, Guard
from transfer.keys import KeyPair, cluster_keys
from transfer.local import Badge
from transfer.messages import (
    LocalFile,
    Media,
    MediaChunk,
    MediaGone,
    MediaRead,
    MediaRelease,
    from_media,
    to_media,
)
from transfer.refusals import Reason
from transfer.threads import in_thread

CHUNK_BYTES = 256 << 10
MAX_READ_BYTES = 1 << 20
AHEAD = 4  # pieces asked for, or come and not yet taken, of one reader
OUTSTANDING = 8  # pieces asked for and not yet come, of all readers of one client
CHUNK_S = 10.0  # a client's patience for one piece

TTL_S = 600.0
MAX_BYTES = 4 << 30

_MAX_ASK_BYTES = 4 << 10  # a MediaRead or MediaRelease is far smaller
_MAX_ANSWER_BYTES = MAX_READ_BYTES + (4 << 10)
_ANSWERS = 2 * OUTSTANDING  # queued for one peer; what it does not take beyond them is dropped
_ASKS = 1000

log = logging.getLogger(__name__)


class _File(NamedTuple):
    fd: int
    nbytes: int
    expires: float  # monotonic


class MediaServer:
    """Gives out finished files until they are released, or nobody asked for `ttl_s` seconds.

    `bind`: a ZeroMQ endpoint; port 0 or `*` takes a free one, and `endpoint` says which. `add`
    takes over an open descriptor, and refuses (`MediaError`) beyond `max_bytes` altogether. Bytes
    that are no request cost the counter `garbage`, connections without the cluster's `keys` (None:
    see `cluster_keys`) the counter `refused`, and both one log line a second at most.

    `find` opens a file by its id that was not added; None: there is none.

    `async with`, or `start` and `close`, in the event loop that serves.
    """

    def __init__(
        self,
        bind: str,
        keys: KeyPair | None = None,
        *,
        ttl_s: float = TTL_S,
        max_bytes: int = MAX_BYTES,
        find: Callable[[str], int | None] = lambda id: None,
    ) -> None:
        self._find = find
        self._files: dict[str, _File] = {}
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        keys = keys or cluster_keys()
        self._context = zmq.asyncio.Context()  # of its own: one guard for each
        self._socket = self._context.socket(zmq.ROUTER)
        _bound(self._socket, _MAX_ASK_BYTES, sends=_ANSWERS, receives=_ASKS)
        self._guard = Guard(self._socket, keys, self._refuse)
        self._task: asyncio.Task[None] | None = None
        self.garbage = 0
        self.refused = 0
        self._complained = 0.0
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._close_socket()
            raise MediaError(f"{bind} cannot be bound: {error}") from error
        self.endpoint = str(self._socket.get_string(zmq.LAST_ENDPOINT))
        self._badge = Badge()

    @property
    def port(self) -> int:
        """Where it listens, on its host."""
        return int(self.endpoint.rpartition(":")[2])

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="media server")

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The serving loop. If it ends before `close`, that is a crash to be seen."""
        return self._task

    @property
    def held(self) -> int:
        """Bytes of all files that are held."""
        return sum(file.nbytes for file in self._files.values())

    def add(self, id: str, fd: int) -> None:
        """Serves the file behind `fd`, which from now on belongs to the server."""
        self._expire()
        nbytes = os.fstat(fd).st_size
        if id in self._files or self.held + nbytes > self._max_bytes:
            os.close(fd)
            held = f"{self.held} of {self._max_bytes} bytes are held"
            raise MediaError(f"the file {id} of {nbytes} bytes is not taken: {held}")
        self._files[id] = _File(fd, nbytes, time.monotonic() + self._ttl_s)

    def release(self, id: str) -> None:
        """Lets go of a file. Unknown ones are no error: a release may come twice."""
        if file := self._files.pop(id, None):
            os.close(file.fd)

    def tell(self, id: str) -> LocalFile:
        """What those on the same host need to open a file that is held. Raises `KeyError`."""
        return self._badge.tell(self._files[id].fd)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._close_socket()
        for id in list(self._files):
            self.release(id)
        self._badge.close()

    def _close_socket(self) -> None:
        self._guard.close()
        self._socket.close()
        contexts.end(self._context)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._guard.run(), name="media guard")
            parts.create_task(self._serve(), name="media answers")

    async def _serve(self) -> None:
        while True:
            waiting = await self._socket.poll(1000)
            self._expire()
            if waiting:
                await self._answer(await self._socket.recv_multipart())

    async def _answer(self, frames: list[bytes]) -> None:
        try:
            if len(frames) != 2:
                raise ProtocolError("message", f"{len(frames)} frames")
            message = to_media.decode(frames[1])
        except ProtocolError as error:
            self.garbage += 1
            self._complain("not a media request (%d so far): %s", self.garbage, error)
            return
        if isinstance(message, MediaRelease):
            self.release(message.id)
        elif isinstance(message, MediaRead):
            answer = await self._read(message)
            with contextlib.suppress(zmq.Again):  # a peer that asks faster than it takes
                await self._socket.send_multipart([frames[0], encode(answer)], zmq.NOBLOCK)

    async def _read(self, ask: MediaRead) -> MediaChunk | MediaGone:
        file = self._files.get(ask.id) or self._found(ask.id)
        if file is None:
            return MediaGone(ask.id, "it has been released, or has expired")
        if not (0 <= ask.offset <= file.nbytes and 0 < ask.length <= MAX_READ_BYTES):
            return MediaGone(ask.id, f"{ask.length} bytes at {ask.offset} of {file.nbytes}")
        self._files[ask.id] = file._replace(expires=time.monotonic() + self._ttl_s)
        try:
            return MediaChunk(ask.id, ask.offset, await _read(file.fd, ask))
        except OSError as error:
            return MediaGone(ask.id, str(error))

    def _found(self, id: str) -> _File | None:
        """One that was not added, but can be opened."""
        fd = self._find(id)
        if fd is not None:
            with contextlib.suppress(MediaError):
                self.add(id, fd)
        return self._files.get(id)

    def _expire(self) -> None:
        now = time.monotonic()
        for id in [id for id, file in self._files.items() if file.expires <= now]:
            self.release(id)

    def _refuse(self, reason: Reason, why: str) -> None:
        self.refused += 1
        self._complain("turned away at the media port (%d so far): %s", self.refused, why)

    def _complain(self, text: str, count: int, why: object) -> None:
        if time.monotonic() - self._complained >= 1:
            self._complained = time.monotonic()
            log.warning(text, count, why)


class MediaClient:
    """Reads files from one instance's media endpoint. One client serves any number of readers.

    `async with`, or `close` at the end. It shows the cluster's `keys` (None: see `cluster_keys`),
    and talks to nobody who has others. What arrives that was not asked for costs the counter
    `garbage`.
    """

    def __init__(
        self, endpoint: str, keys: KeyPair | None = None, *, chunk_s: float = CHUNK_S
    ) -> None:
        self._chunk_s = chunk_s
        keys = keys or cluster_keys()
        # not an asyncio socket: the orchestrator reads every picture through one, and a callback
        # costs it a third of what those futures do
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        _bound(self._socket, _MAX_ANSWER_BYTES, sends=_ASKS, receives=_ANSWERS)
        keys.of_client(self._socket)
        self._waiting: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self._room = asyncio.Semaphore(OUTSTANDING)
        self._descriptor: int | None = None  # while it listens
        self.garbage = 0
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise MediaError(f"{endpoint} is no endpoint: {error}") from error
        self.endpoint = endpoint

    async def read(self, media: Media) -> AsyncIterator[bytes]:
        """The file's bytes in order. Asks for more only as the caller takes what came.

        Raises `MediaError` if a piece does not come in time, is not what was asked for, or the
        file is gone.
        """
        self._listen()
        asked: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        offset = 0
        try:
            while offset < media.nbytes or asked:
                while offset < media.nbytes and len(asked) < AHEAD:
                    length = min(CHUNK_BYTES, media.nbytes - offset)
                    asked.append((length, await self._ask(media.id, offset, length)))
                    offset += length
                length, piece = asked.popleft()
                yield await self._piece(media.id, length, piece)
        finally:
            for _, piece in asked:
                piece.cancel()

    async def release(self, id: str) -> None:
        """Tells the instance that the file is no longer needed."""
        with contextlib.suppress(zmq.Again):  # it is gone then, and the file with it
            self._say(MediaRelease(id))

    async def close(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._socket.close(linger=1000)  # a release that was just sent still goes out

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, id: str, offset: int, length: int) -> asyncio.Future[bytes]:
        await self._room.acquire()
        answer = self._waiting[id, offset] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._answered(id, offset, answer))
        try:
            self._say(MediaRead(id, offset, length))
        except zmq.Again as error:
            answer.cancel()
            raise MediaError(f"{self.endpoint} does not take requests") from error
        return answer

    def _answered(self, id: str, offset: int, answer: asyncio.Future[bytes]) -> None:
        self._room.release()
        if self._waiting.get((id, offset)) is answer:  # else it is being read anew
            del self._waiting[id, offset]

    async def _piece(self, id: str, length: int, answer: asyncio.Future[bytes]) -> bytes:
        try:
            data = await asyncio.wait_for(answer, self._chunk_s)
        except TimeoutError as error:
            message = f"{self.endpoint} sent no piece of {id} for {self._chunk_s:g} s"
            raise MediaError(message) from error
        if len(data) != length:
            raise MediaError(f"{len(data)} bytes of {id} came, {length} were asked for")
        return data

    def _say(self, message: Message) -> None:
        """Raises `zmq.Again` if the instance does not take what it is sent."""
        self._socket.send(encode(message), zmq.NOBLOCK)
        if self._descriptor is not None:
            self._receive()  # sending may have swallowed the news that something can be received

    def _listen(self) -> None:
        if self._descriptor is None:
            self._descriptor = cast(int, self._socket.getsockopt(zmq.FD))
            asyncio.get_running_loop().add_reader(self._descriptor, self._receive)

    def _receive(self) -> None:
        """What has come; after some of it, others have their turn."""
        if self._socket.closed:
            return
        for _ in range(OUTSTANDING):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._hear(frames)
        asyncio.get_running_loop().call_soon(self._receive)

    def _hear(self, frames: list[bytes]) -> None:
        try:
            message = from_media.decode(frames[0])
        except ProtocolError:
            self.garbage += 1
            return
        if isinstance(message, MediaGone):
            self._fail(message)
        elif isinstance(message, MediaChunk):
            self._take(message)

    def _take(self, chunk: MediaChunk) -> None:
        answer = self._waiting.get((chunk.id, chunk.offset))
        if answer is None or answer.done():
            self.garbage += 1
        else:
            answer.set_result(chunk.data)

    def _fail(self, gone: MediaGone) -> None:
        for (id, _), answer in list(self._waiting.items()):
            if id == gone.id and not answer.done():
                answer.set_exception(MediaError(f"the file {id} is gone: {gone.reason}"))
                answer.exception()  # seen, even if its reader is gone too


async def _read(fd: int, ask: MediaRead) -> bytes:
    data = bytearray(ask.length)
    with contextlib.suppress(OSError):  # what is in memory costs less than asking a thread
        if os.preadv(fd, [data], ask.offset, os.RWF_NOWAIT) == ask.length:
            return bytes(data)
    own = os.dup(fd)  # a release may come while the thread reads
    return await in_thread(_read_blocking, own, ask)


def _read_blocking(fd: int, ask: MediaRead) -> bytes:
    try:
        return os.pread(fd, ask.length, ask.offset)
    finally:
        os.close(fd)


def _bound(socket: "zmq.Socket[Any]", max_bytes: int, *, sends: int, receives: int) -> None:
    """Bounded queues, and no frame larger than any of ours."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes + SEAL_BYTES)
    socket.setsockopt(zmq.SNDHWM, sends)
    socket.setsockopt(zmq.RCVHWM, receives)
