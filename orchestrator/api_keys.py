"""API keys: a file of their hashes, read again when it changes.

A line is `NAME:HASH` or `HASH`; HASH is the SHA-256 of a key, in 64 hexadecimal digits. Empty lines
and what follows a `#` do not count. A plain hash is enough because keys are drawn at random
(`new_key`), not chosen by people: there is no list of likely ones to try.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
from pathlib import Path

import msgspec

from transfer.threads import in_thread

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at the file
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Owner(msgspec.Struct, frozen=True):
    """Who a key was given to. `name`: from the file, or the first digits of the hash."""

    name: str
    hash: str


def new_key() -> str:
    """A key that nobody guesses: 256 random bits."""
    return f"tk-{secrets.token_urlsafe(32)}"


def hash_of(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def line_of(key: str, name: str | None = None) -> str:
    """The line that lets `key` in. ValueError: the name would not be read back."""
    if name is None:
        return hash_of(key.encode())
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a key; write up to 64 of A-Z a-z 0-9 . _ @ -")
    return f"{name}:{hash_of(key.encode())}"


def parse(text: str) -> list[Owner]:
    """The owners in a file of keys. ValueError names the first line that cannot be read."""
    owners = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        name, _, digest = line.rpartition(":")
        digest = digest.strip().lower()
        if not _HASH.fullmatch(digest) or (name and not _NAME.fullmatch(name.strip())):
            raise ValueError(f"line {number} is neither HASH nor NAME:HASH (triptych apikey)")
        owners.append(Owner(name.strip() or digest[:8], digest))
    return owners


class ApiKeys:
    """Who may come in. `watch_forever` keeps it in step with the file.

    A file that has become unreadable changes nothing, and is an error in the log: a slip of an
    editor locks nobody out. `besides`: who comes in whatever the file says. ValueError: it cannot
    be read at the start, or has no key.
    """

    def __init__(self, path: str | Path, besides: list[Owner] | None = None) -> None:
        self._path = Path(path)
        self._besides = besides or []
        self._seen = _stamp(self._path)
        self._owners = _read(self._path)
        if not self._owners:
            raise ValueError(f"--api-keys {path} has no key; `triptych apikey` makes one")

    def owner(self, key: bytes) -> Owner | None:
        """Takes equally long for every key that is not in the file."""
        digest = hash_of(key)
        found = None
        for owner in (*self._owners, *self._besides):
            if hmac.compare_digest(owner.hash, digest):
                found = owner
        return found

    async def watch_forever(self, every_s: float = LOOK_S) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def look(self) -> None:
        """Reads the file if it has changed."""
        try:
            stamp = await in_thread(_stamp, self._path)
            if stamp == self._seen:
                return
            self._seen = stamp
            self._owners = await in_thread(_read, self._path)
        except ValueError as error:
            log.error("%s; the keys that were read before still hold", error)
            return
        log.info("API keys: %d in %s", len(self._owners), self._path)


Stamp = tuple[int, int, int] | None


def _stamp(path: Path) -> Stamp:
    """Changes whenever the file does; None while there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> list[Owner]:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"--api-keys {path} is no text file") from None
    except OSError as error:
        raise ValueError(f"cannot read --api-keys {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--api-keys {path}: {error}") from None
