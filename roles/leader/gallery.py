"""Where an instance's finished files are until the front door has read them."""

import contextlib
import os
import secrets
import shutil

import msgspec

from roles.calls import MediaFile
from transfer.media import MediaServer
from transfer.messages import Media
from transfer.threads import in_thread

SUFFIXES = {"image/jpeg": "jpg", "audio/wav": "wav", "video/mp4": "mp4", "application/x-npy": "npy"}


class Gallery:
    """Takes finished files over from a rank, and keeps them where the front door can reach them.

    Without a `store`, they stay in this process (an open descriptor each): a front door on the same
    host opens them itself, to others the media server gives them out at `endpoint`. With one, a
    folder or any fsspec URL, they are copied there in a thread, under a name that nobody can guess,
    and belong to the front door from then on.
    """

    def __init__(self, server: MediaServer, endpoint: str, store: str | None) -> None:
        self._server = server
        self._endpoint = endpoint
        self._store = store

    async def publish(self, pid: int, files: list[MediaFile]) -> list[Media]:
        """One `Media` for each file that the rank `pid` holds open; the rank may close them then.

        Raises OSError (the rank is gone, the store is full) and `MediaError` (too many are held).
        """
        opened: list[int] = []
        published: list[Media] = []
        try:
            for file in files:
                opened.append(os.open(f"/proc/{pid}/fd/{file.fd}", os.O_RDONLY))
            while opened:
                published.append(await self._take(files[len(published)], opened.pop(0)))
        except BaseException:
            self.discard(published)
            raise
        finally:
            for fd in opened:
                os.close(fd)
        return published

    def discard(self, media: list[Media]) -> None:
        """Nobody will ask for these."""
        for one in media:
            self._server.release(one.id)
            if one.store_key is not None:
                in_thread(_remove, self._store, one.store_key)

    async def _take(self, file: MediaFile, fd: int) -> Media:
        media = _media(file)
        if self._store is None:
            self._server.add(media.id, fd)
            local = self._server.tell(media.id)
            return msgspec.structs.replace(media, endpoint=self._endpoint, local=local)
        key = f"{media.id}.{_suffix(file.mime)}"
        await in_thread(_copy, fd, self._store, key)
        return msgspec.structs.replace(media, store_key=key)


def _media(file: MediaFile) -> Media:
    return Media(
        id=secrets.token_hex(16),
        made=file.made,
        mime=file.mime,
        nbytes=file.nbytes,
        speed=file.speed,
        decoded_in=file.decoded_in,
        seed=file.seed,
    )


def _suffix(mime: str) -> str:
    return SUFFIXES.get(mime) or mime.partition("/")[2]


def _copy(fd: int, store: str, key: str) -> None:
    """Into the store, whole or not at all."""
    import fsspec  # type: ignore[import-untyped]  # a slow import that few instances need

    fs, root = fsspec.core.url_to_fs(store)
    path = f"{root.rstrip('/')}/{key}"
    with open(fd, "rb") as source:
        try:
            with fs.open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(path)
            raise


def _remove(store: str, key: str) -> None:
    import fsspec

    fs, root = fsspec.core.url_to_fs(store)
    with contextlib.suppress(Exception):
        fs.rm_file(f"{root.rstrip('/')}/{key}")
