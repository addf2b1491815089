"""Where finished files are read from: the media store, or the instance that made them, by its
descriptor on the same host and over the media channel from another."""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import cast

from orchestrator.http.media.store import Store
from transfer.errors import MediaError
from transfer.local import PIECE_BYTES, LocalReader, NotLocal
from transfer.media import MediaClient
from transfer.messages import Media

log = logging.getLogger(__name__)

LARGE_BYTES = 4 << 20  # a piece for a thread
IDLE_CONNECTIONS = 64  # kept for the next file of an instance; more only while they are used


class MediaGateway:
    """Hands out finished files in chunks, read as they are taken.

    One connection per instance, shared by all its readers; those unused for longest are closed.
    Call `close_gone` now and then.
    `store`: the media store that the decoders share with this process, if there is one. Give a
    gateway to `create_app`, which closes it.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        connect: Callable[[str], MediaClient] = MediaClient,
        idle: int = IDLE_CONNECTIONS,
    ) -> None:
        self._store = Store(store) if store is not None else None
        self._connect = connect
        self._idle = idle
        self._clients: dict[str, MediaClient] = {}  # the longest unused first
        self._readers: dict[str, int] = {}

    async def chunks(self, media: Media, large: bool = False) -> AsyncGenerator[bytes, None]:
        """The bytes of a file in order. `large`: in larger pieces where they do not hold up the
        event loop, for whoever gives each to a thread. Raises `MediaError` if they cannot be had.
        """
        with contextlib.ExitStack() as stack:
            if media.store_key is not None:
                source = self._stored(media.store_key).chunks(media.store_key)
            elif reader := _opened(media):
                stack.callback(reader.close)
                source = reader.pieces(LARGE_BYTES if large else PIECE_BYTES)
            else:
                source = self._fetched(media)
            async with contextlib.aclosing(source):
                async for chunk in source:
                    yield chunk

    async def release(self, media: Media) -> None:
        """The file is no longer needed. Never raises: its owner lets go of it by itself, later."""
        try:
            if media.store_key is not None:
                await self._stored(media.store_key).delete(media.store_key)
            else:
                async with self._client(media) as client:
                    await client.release(media.id)
        except Exception as error:
            log.warning("the file %s cannot be released: %s", media.id, error)

    async def close(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].close()

    async def close_gone(self, lives: Callable[[str], bool]) -> None:
        """Closes the connections that nobody uses to instances that are gone; ZeroMQ would go on
        trying to reach them. One that comes back is connected again."""
        gone = [e for e in self._clients if not self._readers[e] and not lives(e)]
        for endpoint in gone:
            del self._readers[endpoint]
            await self._clients.pop(endpoint).close()

    async def _fetched(self, media: Media) -> AsyncGenerator[bytes, None]:
        async with self._client(media) as client:
            # its own declared type hides that it can be closed
            pieces = cast(AsyncGenerator[bytes, None], client.read(media))
            async with contextlib.aclosing(pieces):
                async for chunk in pieces:
                    yield chunk

    def _stored(self, key: str) -> Store:
        if self._store is None:
            raise MediaError(f"{key} lies in a media store, and the orchestrator was given none")
        return self._store

    @contextlib.asynccontextmanager
    async def _client(self, media: Media) -> AsyncIterator[MediaClient]:
        if media.endpoint is None:
            raise MediaError(f"nobody knows where the file {media.id} lies")
        endpoint = media.endpoint
        client = self._clients.pop(endpoint, None) or self._connect(endpoint)
        self._clients[endpoint] = client
        self._readers[endpoint] = self._readers.get(endpoint, 0) + 1
        try:
            yield client
        finally:
            self._readers[endpoint] -= 1
            await self._close_idle()

    async def _close_idle(self) -> None:
        idle = [endpoint for endpoint in self._clients if not self._readers[endpoint]]
        for endpoint in idle[: max(0, len(idle) - self._idle)]:
            del self._readers[endpoint]
            await self._clients.pop(endpoint).close()


def _opened(media: Media) -> LocalReader | None:
    """None: it has to be read in another way."""
    if media.local is None:
        return None
    try:
        return LocalReader.open(media.local, media.nbytes)
    except NotLocal as reason:
        log.debug("%s is read over the media channel: %s", media.id, reason)
        return None
