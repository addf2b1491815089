"""Weights in one file: on this disk, or on a hub, from where it comes when it is wanted. Imports no
torch.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from roles.split.files import place
from roles.split.files.hub import Hub
from roles.split.files.source import GGUF, SAFETENSORS, Source
from roles.split.program import ModelError

_NAMED = 5  # files of a repository that an error names


@dataclass(frozen=True)
class LoneFile:
    """A checkpoint of a pipeline, or of one of its components. `path`: where it is, or will be, on
    this disk; `inner`: its path in the hub's repository."""

    path: Path
    hub: Hub | None = None
    inner: str = ""

    @classmethod
    def of(cls, source: Source) -> "LoneFile":
        """The one that a source names (`Source.names_file`). Raises ModelError."""
        if source.path is not None:
            return cls(source.path)
        assert source.subfolder is not None
        hub, inner = Hub.at(source), source.subfolder
        if inner not in hub.files:
            ending = Path(inner).suffix
            there = [each for each in hub.files if each.endswith(ending)]
            more = ", …" if len(there) > _NAMED else ""
            has = f"; it has {', '.join(there[:_NAMED])}{more}" if there else ""
            raise ModelError(f"the model hub's {hub.id} has no file {inner} at {hub.commit}{has}")
        return cls(hub.path / inner, hub, inner)

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are quantized, and in the format of GGML."""
        return self.path.suffix == GGUF

    @property
    def name(self) -> str:
        """Without the folders that it is in."""
        return self.path.name

    @property
    def model_name(self) -> str:
        """What a model is called that is in this file: as the file, or, since those of many
        repositories have one name, as the repository and the file."""
        stem = self.name.removesuffix(SAFETENSORS)
        return stem if self.hub is None else f"{self.hub.id}:{self.inner.removesuffix(SAFETENSORS)}"

    @property
    def told(self) -> str:
        """From where it is, for people everywhere, so without a folder of this disk."""
        if self.hub is None:
            return self.name
        return str(Source(self.hub.id, self.hub.commit, self.inner))

    @property
    def stamp(self) -> int:
        """Another one once it has other contents; those of a commit never change."""
        return 0 if self.hub is not None else self.path.stat().st_mtime_ns

    def bring(self) -> Path:
        """Has it on this disk. Raises ModelError."""
        if self.hub is not None:
            self.hub.bring([self.inner])
        return self.path

    def tensors(self) -> dict[str, Any]:
        """What a safetensors file holds, without fetching more than that: {NAME: {"dtype",
        "shape", …}}. Raises ModelError."""
        if self.hub is not None and not self.path.exists():
            return self._far
        found = place.header(self.path)
        return {name: told for name, told in found.items() if name != "__metadata__"}

    @cached_property
    def _far(self) -> dict[str, Any]:
        assert self.hub is not None
        return self.hub.header(self.inner)
