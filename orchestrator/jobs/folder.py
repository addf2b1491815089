"""The state folder: one orchestrator's, for as long as its process lives."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

PATIENCE_S = 3.0  # for an orchestrator that is just ending
LOOK_S = 0.05


class FolderTaken(RuntimeError):
    """Another orchestrator has the folder."""


class StateFolder:
    """`path` None: a private folder in the place for temporary files, removed by `close`.

    The lock is the kernel's (flock): it ends with the process, however that ends. Raises
    `FolderTaken`, or OSError if the folder cannot be used.
    """

    def __init__(self, path: str | None) -> None:
        self.private = path is None
        self.path = Path(path or tempfile.mkdtemp(prefix="triptych-state-"))
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
            self.media.mkdir(exist_ok=True)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def media(self) -> Path:
        """Where finished files are kept."""
        return self.path / "media"

    @property
    def uploads(self) -> Path:
        """Where what clients uploaded is kept."""
        return self.path / "uploads"

    @property
    def journal(self) -> str:
        """The URL of the journal, unless another one was asked for."""
        return f"sqlite:///{self.path.resolve() / 'journal.db'}"

    def close(self) -> None:
        if self.private:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() >= until:
                owner = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
                text = (
                    f"the state folder {self.path} is in use by the orchestrator with pid {owner}"
                )
                raise FolderTaken(f"{text}; each needs one of its own")
            time.sleep(LOOK_S)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
