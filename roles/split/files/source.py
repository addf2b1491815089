"""How the place of a model or of a component is written: `DIR_OR_ID[@REVISION][:INSIDE]`.

What lies on this disk under the whole text is that, whatever signs are in its name. Everything else
is the id of a hub's repository, owner/name, with a branch, a tag or a commit. What is inside is a
folder, or a file with weights. Imports no torch.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_HUB = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[^\s:@]+))?(:(?P<inner>.+))?")

SAFETENSORS, GGUF = ".safetensors", ".gguf"


@dataclass(frozen=True)
class Source:
    """`place`: a path, or a hub id. `revision`: of a hub's repository; None: its default branch.
    `subfolder`: in there, or a file; None: the place itself."""

    place: str
    revision: str | None = None
    subfolder: str | None = None

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> "Source":
        """Raises ValueError with one sentence for people."""
        text = os.fspath(text)
        if _path(text).exists():
            return cls(text)
        place, colon, inner = text.rpartition(":")
        if colon and _path(place).is_dir():
            return cls(place, subfolder=_inner(inner, text))
        found = _HUB.fullmatch(text)
        if found is None:
            raise ValueError(f"there is no folder {text}")
        place, revision = found["id"], found["revision"]
        if _path(place).exists():
            what = "a folder" if _path(place).is_dir() else "a file"
            raise ValueError(f"{place} is {what} on this disk, and has no revision {revision}")
        return cls(place, revision, found["inner"] and _inner(found["inner"], text))

    @property
    def path(self) -> Path | None:
        """Where it lies on this disk; None of a hub's."""
        path = _path(self.place)
        if not path.exists():
            return None
        return path / self.subfolder if self.subfolder else path

    @property
    def names_file(self) -> bool:
        """Whether it is a single file, with weights: on a hub its ending tells."""
        if (path := self.path) is not None:
            return path.is_file()
        return self.subfolder is not None and self.subfolder.endswith((SAFETENSORS, GGUF))

    @property
    def absolute(self) -> "Source":
        """The same for processes with other working directories."""
        path = _path(self.place)
        if not path.exists():
            return self
        # a file in a hub's cache is a link to one without the ending that tells what it is
        return Source(os.path.abspath(path), None, self.subfolder)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.place}{revision}" + (f":{self.subfolder}" if self.subfolder else "")


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _inner(text: str, whole: str) -> str:
    """A sub-folder that does not lead out of its folder."""
    inner = text.strip("/")
    if not inner or text.startswith("/") or ".." in inner.split("/"):
        raise ValueError(f"{whole}: after the colon stands the name of a folder or file in there")
    return inner
