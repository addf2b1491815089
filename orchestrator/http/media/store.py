"""Files by key, in a folder or at any fsspec URL (s3://…, memory://…)."""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from orchestrator.http.errors import ApiError
from orchestrator.http.media.reading import Reading
from transfer.errors import MediaError
from transfer.threads import in_thread

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
T = TypeVar("T")


class Store:
    """Blocking file systems work in threads; the event loop only waits.

    `url` None: a folder that only this user can read, made when it is needed; `close()` removes it.
    """

    def __init__(self, url: str | None = None) -> None:
        self._root: str | None = None
        self._fs = LocalFileSystem()
        if url is not None:
            try:
                self._fs, self._root = fsspec.core.url_to_fs(url)
            except (ValueError, ImportError) as error:  # no such protocol, or not installed
                raise ValueError(f"--media-store {url}: {error}") from error
        self._private = url is None

    def local_path(self, key: str) -> Path | None:
        """Where the file lies, if it lies on this machine."""
        return Path(self._path(key)) if isinstance(self._fs, LocalFileSystem) else None

    async def write(self, key: str, reading: Reading) -> None:
        """Copies the file; what was written of a file that failed is deleted."""
        path = self._path(key)
        try:
            await self._fill(await self._do(self._fs.open, path, "wb"), reading)
        except BaseException:
            await asyncio.shield(self.delete(key))
            raise

    async def _fill(self, file: BinaryIO, reading: Reading) -> None:
        try:
            while chunks := await reading.several():
                await self._do(_write, file, chunks)
        finally:
            await self._do(file.close)

    async def chunks(self, key: str) -> AsyncGenerator[bytes, None]:
        try:
            file = await in_thread(self._fs.open, self._path(key), "rb")
        except OSError as error:
            raise MediaError(f"{key} is not in the media store: {error}") from error
        try:
            while chunk := await in_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        """Never raises: a file that stays costs space, not a request."""
        try:
            await in_thread(self._fs.rm_file, self._path(key))
        except FileNotFoundError:
            pass
        except Exception as error:
            log.warning("media store: %s cannot be deleted: %s", key, error)

    async def close(self) -> None:
        if self._private and self._root is not None:
            await in_thread(shutil.rmtree, self._root, True)

    def _path(self, key: str) -> str:
        """Keys come from other processes: they stay below the root."""
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts:
            raise MediaError(f"{key!r} is not a key of the media store")
        if self._root is None:
            self._root = tempfile.mkdtemp(prefix="triptych-media-")
        return f"{self._root.rstrip('/')}/{key}"

    async def _do(self, call: Callable[..., T], *args: Any) -> T:
        try:
            return await in_thread(call, *args)
        except Exception as error:  # every file system has errors of its own
            log.exception("media store")
            reason = getattr(error, "strerror", None) or type(error).__name__
            message = f"the media store cannot be written ({reason}); b64_json needs none"
            raise ApiError(500, message, code="media_store") from error


def _write(file: BinaryIO, chunks: list[bytes]) -> None:
    for chunk in chunks:  # not every file of fsspec has `writelines`
        file.write(chunk)
