"""Finished files of jobs: from where they were made into durable storage, and out again."""

import asyncio
import contextlib
import logging
import mimetypes
import os
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import BinaryIO, TypeVar

from orchestrator.http.media.gateway import MediaGateway
from orchestrator.http.media.reading import Reading, WrongLength
from orchestrator.http.media.store import Store
from orchestrator.jobs.model import StoredFile
from transfer.errors import MediaError
from transfer.messages import Media
from transfer.threads import in_thread

log = logging.getLogger("orchestrator.jobs")

AT_ONCE = 16  # files that are stored at a time; each holds a descriptor and a few chunks
# Synced to the disk in steps: all at once at the end, the journal's own syncs would wait for it.
SYNC_BYTES = 8 << 20
PARTIAL = ".partial-"
OURS, SHARED = "state:", "store:"  # how keys begin: in the state folder, in the media store
T = TypeVar("T")


class FileGone(Exception):
    """A finished file can no longer be read where it was made."""


class MediaKeeper:
    """Keeps files in `folder`, and leaves those that the media store has where they are.

    A file is there as a whole or not at all: it is written under another name, synced, and renamed.
    `folder` belongs to this keeper alone. `store`: the media store's URL, if there is one. The
    gateway is somebody else's to close.
    """

    def __init__(self, folder: Path, gateway: MediaGateway, store: str | None = None) -> None:
        self._folder = folder
        self._gateway = gateway
        self._stores = {OURS: Store(str(folder))}
        if store is not None:
            self._stores[SHARED] = Store(store)
        self._room = asyncio.Semaphore(AT_ONCE)

    async def store(self, request: str, media: list[Media]) -> list[StoredFile]:
        """Raises `FileGone` if a file cannot be read any more, and anything else if it cannot be
        stored. All are stored, or none."""
        stored: list[StoredFile] = []
        try:
            for index, each in enumerate(media):
                async with self._room:
                    stored.append(await self._store_one(f"{request}-{index}", each))
        except BaseException:
            ours = [file for file in stored if file.key.startswith(OURS)]
            await asyncio.shield(self.delete(ours))
            raise
        return stored

    def chunks(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """The bytes of a stored file. Raises `MediaError` if it is gone."""
        store, key = self._place(file)
        return store.chunks(key)

    def unfinished(self, media: Media) -> AsyncGenerator[bytes, None]:
        """The bytes of a file where it was made. Raises `MediaError` if it is gone."""
        return self._gateway.chunks(media)

    def local_path(self, file: StoredFile) -> Path | None:
        """Where the file lies, if it lies on this machine."""
        store, key = self._place(file)
        return store.local_path(key)

    async def release(self, media: list[Media]) -> None:
        """These files are not needed any more where they were made. Never raises."""
        for each in media:
            await self._gateway.release(each)

    async def delete(self, files: list[StoredFile]) -> None:
        """Never raises: a file that stays is swept in the next life."""
        for file in files:
            try:
                store, key = self._place(file)
            except MediaError as error:
                log.warning("a stored file is left where it is: %s", error)
            else:
                await store.delete(key)

    def sweep(self, keep: list[str]) -> int:
        """Deletes all that is in our folder under other keys: what a crash left. Blocks. Returns
        how many files that were."""
        kept = {key.removeprefix(OURS) for key in keep if key.startswith(OURS)}
        swept = [path for path in self._folder.iterdir() if path.name not in kept]
        for path in swept:
            path.unlink()
        return len(swept)

    def _place(self, file: StoredFile) -> tuple[Store, str]:
        kind, _, key = file.key.partition(":")
        store = self._stores.get(f"{kind}:")
        if store is None:
            raise MediaError(f"{key} lies in a media store, and the orchestrator was given none")
        return store, key

    async def _store_one(self, name: str, media: Media) -> StoredFile:
        if media.store_key is not None and SHARED in self._stores:
            return _described(f"{SHARED}{media.store_key}", media)
        key = name + (mimetypes.guess_extension(media.mime) or "")
        reading = Reading(self._gateway.chunks(media, large=True), media.nbytes)
        try:
            await self._write(key, reading)
        finally:
            await reading.close()
        return _described(f"{OURS}{key}", media)

    async def _write(self, key: str, reading: Reading) -> None:
        partial, path = self._folder / f"{PARTIAL}{key}", self._folder / key
        # what can be read is read before anything is opened: a file that is gone costs no disk
        piece = await _reading(reading.several())
        file = await in_thread(open, partial, "wb")
        try:
            while piece:
                await in_thread(_put, file, piece)
                piece = await _reading(reading.several())
            await in_thread(_finish, file, partial, path)
        except BaseException:
            await asyncio.shield(in_thread(_give_up, file, partial))
            raise


async def _reading(pieces: Awaitable[T]) -> T:
    try:
        return await pieces
    except (MediaError, WrongLength) as error:
        raise FileGone(str(error)) from error


def _put(file: BinaryIO, pieces: list[bytes]) -> None:
    before = file.tell()
    file.writelines(pieces)
    if file.tell() // SYNC_BYTES > before // SYNC_BYTES:
        file.flush()
        os.fdatasync(file.fileno())


def _finish(file: BinaryIO, partial: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    os.replace(partial, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_up(file: BinaryIO, partial: Path) -> None:
    with contextlib.suppress(OSError):  # what was buffered does not fit either
        file.close()
    partial.unlink(missing_ok=True)


def _described(key: str, media: Media) -> StoredFile:
    return StoredFile(key, media.made, media.mime, media.nbytes, media.speed, media.seed)
