"""What came with requests: read from where the orchestrator keeps it, once for as long as it is
used. Runs in the leader."""

import asyncio
import hashlib
import os
from collections import OrderedDict

from roles.calls import InputFile
from roles.leader.attempt import Attempt, AttemptFailed, Stopped
from transfer.errors import MediaError
from transfer.keys import KeyPair
from transfer.made import ImageMade
from transfer.media import MediaClient
from transfer.messages import ErrorInfo, Media, Upload
from transfer.pictures import MOST_BYTES

KEPT_BYTES = 256 << 20  # of those that nobody uses now


class GivenFiles:
    """Files by their hash, in memory, without a name; each an open descriptor of this process.

    `await fetch(upload, port)` and then `release(upload)`, as often. A file that several
    requests want at once is read once; one that nobody uses stays for the next that wants it, up to
    `kept_bytes`, those unused for longest go first. They go with the process.

    `host`: of the orchestrator, tcp://HOST. `keys`: as `MediaClient` has them.
    """

    def __init__(
        self, host: str, keys: KeyPair | None = None, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._host, self._keys = host, keys
        self._kept_bytes = kept_bytes
        self._files: dict[str, asyncio.Task[int]] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, int] = OrderedDict()  # bytes, the longest unused first

    async def bring(self, attempt: Attempt) -> None:
        """What came with the attempt's request into `attempt.files`, if its pipeline begins here;
        to be released. Raises `AttemptFailed`, and `Stopped`."""
        work = attempt.work
        if not work.inputs.uploads or work.delivery is not None:
            return
        if work.uploads_port is None:
            raise AttemptFailed(ErrorInfo("internal", "nobody said where the uploads are"))
        fetching = asyncio.ensure_future(self.fetch_all(work.inputs.uploads, work.uploads_port))
        try:
            attempt.files = await attempt.wait(fetching)
        except MediaError as error:
            raise AttemptFailed(ErrorInfo("transfer_failed", str(error))) from error
        except (Stopped, AttemptFailed):
            fetching.cancel()
            fetching.add_done_callback(self._unwanted)
            raise

    def _unwanted(self, fetching: "asyncio.Future[list[InputFile]]") -> None:
        """Nobody waits for these any more."""
        if not fetching.cancelled() and fetching.exception() is None:
            self.release_all(fetching.result())

    async def fetch(self, upload: Upload, port: int) -> InputFile:
        """Raises `MediaError`: it cannot be had, or is not what its hash says."""
        if upload.nbytes > MOST_BYTES:
            raise MediaError(f"an upload of {upload.nbytes} bytes; {MOST_BYTES} at most")
        hash = upload.hash
        self._users[hash] = self._users.get(hash, 0) + 1
        self._idle.pop(hash, None)
        if hash not in self._files:
            self._files[hash] = asyncio.create_task(self._read(upload, port))
        try:
            fd = await asyncio.shield(self._files[hash])
        except BaseException:
            self.release(upload)
            raise
        return InputFile(upload, os.getpid(), fd)

    async def fetch_all(self, uploads: list[Upload], port: int) -> list[InputFile]:
        """All or none. Raises what `fetch` does."""
        files: list[InputFile] = []
        try:
            for upload in uploads:
                files.append(await self.fetch(upload, port))
        except BaseException:
            self.release_all(files)
            raise
        return files

    def release_all(self, files: list[InputFile]) -> None:
        for file in files:
            self.release(file.upload)

    def release(self, upload: Upload) -> None:
        hash = upload.hash
        self._users[hash] -= 1
        if self._users[hash]:
            return
        del self._users[hash]
        task = self._files[hash]
        if not task.done() or task.cancelled() or task.exception() is not None:
            self._drop(hash)
            return
        self._idle[hash] = upload.nbytes
        while sum(self._idle.values()) > self._kept_bytes:
            self._drop(self._idle.popitem(last=False)[0])

    def _drop(self, hash: str) -> None:
        task = self._files.pop(hash)
        task.cancel()
        task.add_done_callback(_close)

    async def _read(self, upload: Upload, port: int) -> int:
        """A descriptor of the file, in memory. Raises `MediaError`."""
        digest, media = hashlib.sha256(), Media(upload.hash, ImageMade(), "", upload.nbytes)
        fd = os.memfd_create("triptych-upload", os.MFD_CLOEXEC)
        try:
            async with MediaClient(f"{self._host}:{port}", self._keys) as client:
                async for piece in client.read(media):
                    digest.update(piece)
                    os.write(fd, piece)
            if digest.hexdigest() != upload.hash:
                raise MediaError(f"the upload {upload.hash} is not what its hash says")
        except BaseException:
            os.close(fd)
            raise
        return fd


def _close(task: "asyncio.Task[int]") -> None:
    if not task.cancelled() and task.exception() is None:
        os.close(task.result())
