"""An adapter's file: what its bytes are, and what of it is for the modules that are here."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import xxhash

READ_BYTES = 1 << 20


class Elsewhere(Exception):
    """It changes nothing of what is here, and something of what other roles have."""


class Reader:
    """Takes the place of a pipeline's `lora_state_dict`, which it asks, and leaves out what is for
    the components that are `away`, in other roles. `loadable`: those that adapters of this pipeline
    may change. `parts`: those of them that the file changes here, once it was read."""

    def __init__(
        self, read: Callable[..., Any], loadable: Collection[str], away: Collection[str]
    ) -> None:
        self._read = read
        self._loadable, self._away = loadable, away
        self.parts: list[str] = []

    def __call__(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """In the form in which the pipeline gives it: the weights alone, or before other things.
        Raises ValueError if it changes nothing that this pipeline has anywhere; `Elsewhere`; and
        what reading raises."""
        told = self._read(path, *args, **kwargs)
        weights = told[0] if isinstance(told, tuple) else told
        parts = {_part(key) for key in weights}.intersection(self._loadable)
        if not parts:
            raise ValueError(f"{path}: it has nothing for {', '.join(self._loadable)}")
        self.parts = sorted(parts.difference(self._away))
        if not self.parts:
            raise Elsewhere(path)
        mine = {key: value for key, value in weights.items() if _part(key) not in self._away}
        return (mine, *told[1:]) if isinstance(told, tuple) else mine


def _part(key: str) -> str:
    return key.partition(".")[0]


def identified(path: str) -> tuple[str, int]:
    """The hash of the adapter's bytes, and how many there are. Raises FileNotFoundError."""
    place = Path(path)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(f"there is no .safetensors file at {path}")
    hasher, nbytes = xxhash.xxh3_128(), 0
    for file in files:
        with file.open("rb") as opened:
            while data := opened.read(READ_BYTES):
                hasher.update(data)
                nbytes += len(data)
    return hasher.hexdigest(), nbytes
