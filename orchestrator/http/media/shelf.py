"""The finished files that clients have links to: `/v1/media/{id}`, for a while."""

import asyncio
import logging
import mimetypes
import secrets
import time
from collections.abc import Callable

import msgspec

from orchestrator.http.errors import ApiError
from orchestrator.http.media.reading import Reading
from orchestrator.http.media.store import Store
from transfer.messages import Media

log = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True):
    """A file with a link. `expires_at` is on the shelf's clock."""

    id: str
    key: str
    mime: str
    nbytes: int
    expires_at: float


class Shelf:
    """Keeps files for `ttl_s` seconds, of `max_bytes` together; the oldest make room.

    The id is drawn at random and is all that a reader needs. The table is in memory: links end with
    the process, and `close()` takes the files along.
    """

    def __init__(
        self,
        store: Store,
        ttl_s: float,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._ttl_s, self._max_bytes, self._clock = ttl_s, max_bytes, clock
        self._kept: dict[str, Kept] = {}  # the oldest first

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in self._kept.values())

    async def keep(self, media: Media, reading: Reading) -> str:
        """Copies a file into the store. Returns its id."""
        await self._make_room(media.nbytes)
        kept = self._entry(media, key=None)
        # In the table before it is complete, so that its bytes count; its id is still a secret.
        self._kept[kept.id] = kept
        try:
            await self.store.write(kept.key, reading)
        except BaseException:
            self._kept.pop(kept.id, None)
            raise
        return kept.id

    async def adopt(self, media: Media) -> str:
        """Takes over a file that already lies in the store, at `media.store_key`."""
        await self._make_room(media.nbytes)
        kept = self._entry(media, key=media.store_key)
        self._kept[kept.id] = kept
        return kept.id

    def find(self, id: str) -> Kept | None:
        kept = self._kept.get(id)
        return kept if kept is not None and self._clock() < kept.expires_at else None

    async def drop(self, ids: list[str]) -> None:
        """Deletes files before their time."""
        for id in ids:
            if kept := self._kept.get(id):
                await self._drop(kept)

    async def sweep(self) -> None:
        """Deletes what has expired."""
        now = self._clock()
        for kept in [kept for kept in self._kept.values() if kept.expires_at <= now]:
            await self._drop(kept)

    async def sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(min(30.0, self._ttl_s / 4))
            try:
                await self.sweep()
            except Exception:
                log.exception("sweeping the media store")

    async def close(self) -> None:
        for kept in list(self._kept.values()):
            await self._drop(kept)
        await self.store.close()

    def _entry(self, media: Media, key: str | None) -> Kept:
        id = secrets.token_urlsafe(16) + (mimetypes.guess_extension(media.mime) or "")
        return Kept(id, key or id, media.mime, media.nbytes, self._clock() + self._ttl_s)

    async def _make_room(self, nbytes: int) -> None:
        if nbytes > self._max_bytes:
            message = f"a file of {nbytes} bytes; links are kept for {self._max_bytes} bytes in all"
            raise ApiError(413, message, code="media_store")
        while self.nbytes + nbytes > self._max_bytes:
            await self._drop(next(iter(self._kept.values())))

    async def _drop(self, kept: Kept) -> None:
        self._kept.pop(kept.id, None)
        await self.store.delete(kept.key)
