"""The folder of one component: on this disk, or on a hub, from where its files come when they are
wanted. Imports no torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.split.files import variants
from roles.split.files.hub import Hub
from roles.split.program import ModelError

# everything but weights: configs, tokenizers, chat templates
SMALL = (".json", ".txt", ".jinja", ".model", ".spm", ".tiktoken")
_MAX_HEADER = 100 << 20  # as safetensors itself allows


@dataclass(frozen=True)
class Place:
    """`path`: where it is, or will be, on this disk; `inner`: its path in the hub's repository.
    `wanted`: the variant of the weights that is read, where it has one."""

    path: Path
    hub: Hub | None = None
    inner: str = ""
    wanted: str | None = None

    @property
    def names(self) -> list[str]:
        """Of the files in it, those included that were not brought here."""
        if self.hub is not None:
            return self.hub.within(self.inner)
        return [each.name for each in self.path.iterdir()] if self.path.is_dir() else []

    @property
    def small(self) -> list[str]:
        """The paths in the hub's repository of all that is no weights."""
        return [self._inside(name) for name in self.names if name.endswith(SMALL)]

    @property
    def variant(self) -> str | None:
        """The one that is read."""
        return variants.chosen(self.names, self.wanted)[0]

    def weights(self) -> list[Path]:
        """The safetensors files that are read, brought here if need be. Raises ModelError."""
        _, names = variants.chosen(self.names, self.wanted)
        if self.hub is not None:
            self.hub.bring(map(self._inside, names))
        return [self.path / name for name in names]

    def stored_dtype(self) -> str | None:
        """Of the first floating numbers among the weights, as safetensors calls it (BF16), which
        are not brought here for that; None if there are none."""
        for name in variants.chosen(self.names, self.wanted)[1]:
            header = self._header(name)
            kinds = [str(header[tensor]["dtype"]) for tensor in sorted(header)]
            found = next((kind for kind in kinds if "F" in kind), None)
            if found is not None:
                return found
        return None

    def _header(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if self.hub is not None and not path.exists():
            return self.hub.header(self._inside(name))
        return {key: value for key, value in header(path).items() if key != "__metadata__"}

    def _inside(self, name: str) -> str:
        return f"{self.inner}/{name}" if self.inner else name


def header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself. Raises ModelError."""
    try:
        found: dict[str, Any] = json.loads(header_bytes(path))
    except ValueError as error:
        raise ModelError(f"{path} is no safetensors file: {error}") from error
    return found


def header_bytes(path: Path) -> bytes:
    """The header as it is written. Raises ModelError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ModelError(f"{path} is no safetensors file, or an unfinished download")
        return file.read(length)
