"""What clients uploaded: kept once by its content's hash, in the state folder, and given out to the
instances."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.http.request.enclosed import NoRoom

KEPT_S = 2 * 86_400.0  # after its last use; longer than a job may wait
MOST_BYTES = 4 << 30  # of all
_HASH = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".partial"


class Uploads:
    """Files called after their SHA-256, kept for `kept_s` seconds after they were last wanted. A
    file's time of change says when that was.

    First `open` a folder, which is this object's alone then. `keep` and `sweep` block.
    """

    def __init__(
        self,
        *,
        kept_s: float = KEPT_S,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder: Path | None = None
        self._kept_s, self._most_bytes, self._clock = kept_s, most_bytes, clock

    def open(self, folder: Path) -> "Uploads":
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.sweep()
        return self

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "open comes first"
        return self._folder

    def keep(self, data: bytes) -> str:
        """The file's hash, once it is on the disk. Raises `NoRoom`, and OSError."""
        hash = hashlib.sha256(data).hexdigest()
        path = self.folder / hash
        if not self._touch(path):
            self._make_room(len(data))
            partial = path.with_suffix(f"{_PARTIAL}{time.monotonic_ns()}")
            try:
                with open(partial, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            self._touch(path)
        return hash

    def find(self, hash: str) -> int | None:
        """An open descriptor of the file; None if it is not here."""
        if self._folder is None or not _HASH.fullmatch(hash):
            return None
        path = self._folder / hash
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        self._touch(path)
        return fd

    def sweep(self) -> None:
        """Deletes what nobody has wanted for long, and what a crash left half written."""
        oldest = self._clock() - self._kept_s
        for path in list(self.folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _make_room(self, nbytes: int) -> None:
        for attempt in range(2):
            used = sum(path.stat().st_size for path in self.folder.iterdir())
            if used + nbytes <= self._most_bytes:
                return
            if not attempt:
                self.sweep()
        raise NoRoom(f"{used} of {self._most_bytes} bytes of uploads are kept")

    def _touch(self, path: Path) -> bool:
        now = self._clock()
        try:
            os.utime(path, (now, now))
        except FileNotFoundError:
            return False
        return True
