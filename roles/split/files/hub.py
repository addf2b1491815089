"""One commit of a model on a hub: what is in it, and files of it on this disk. Imports no torch.

The hub's own settings hold: HF_HUB_OFFLINE, HF_TOKEN or a login, HF_HOME for the cache, HF_ENDPOINT
for another hub. What is in the cache is not asked for again, and a commit never changes: with all
files there, no network is needed.
"""

import contextlib
import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from roles.split.files.source import Source
from roles.split.program import ModelError

# what the list of files comes with: small, and wanted of all components by every role
CONFIGS = ["model_index.json", "modular_*.json", "config.json", "*/config.json", "*_config.json"]


@dataclass(frozen=True)
class Hub:
    """`id`: owner/name. `path`: the commit's folder in the cache, which holds what was brought."""

    id: str
    commit: str
    path: Path

    @classmethod
    def at(cls, source: Source) -> "Hub":
        """The commit that the source's revision is now. Raises ModelError."""
        commit = resolve(source)
        return cls(source.place, commit, _snapshot(source.place, commit, CONFIGS))

    @cached_property
    def files(self) -> list[str]:
        """The paths of all files of the commit; of those in the cache, if it was filled by a
        library that kept no list."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            tree = get_cached_repo_tree(self.id, revision=self.commit)
        except CachedRepoTreeNotFoundError:
            here = (path for path in self.path.rglob("*") if path.is_file())
            return sorted(str(path.relative_to(self.path)) for path in here)
        return sorted(each.path for each in tree)

    def within(self, folder: str) -> list[str]:
        """The names of the files of one folder; "" is the uppermost one."""
        start = f"{folder}/" if folder else ""
        names = (path.removeprefix(start) for path in self.files if path.startswith(start))
        return [name for name in names if "/" not in name]

    def bring(self, files: Iterable[str]) -> None:
        """Has these files on this disk. Raises ModelError."""
        missing = [file for file in files if not (self.path / file).exists()]
        if missing:
            _snapshot(self.id, self.commit, list(map(glob.escape, missing)))

    def header(self, file: str) -> dict[str, Any]:
        """The header of a safetensors file, without the rest of it: {NAME: {"dtype", "shape",
        "data_offsets"}}. Raises ModelError."""
        from huggingface_hub import HfApi

        with _telling(self.id, self.commit):
            found = HfApi().parse_safetensors_file_metadata(self.id, file, revision=self.commit)
        return {
            name: {"dtype": x.dtype, "shape": x.shape, "data_offsets": x.data_offsets}
            for name, x in found.tensors.items()
        }


def resolve(source: Source) -> str:
    """The commit of a hub's branch, tag or commit: one question, and none for a commit. Raises
    ModelError."""
    from huggingface_hub import HfApi  # slow to import, and seldom needed

    with _telling(source.place, source.revision):
        return HfApi().resolve_revision(source.place, revision=source.revision).resolved


def _snapshot(id: str, commit: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    with _telling(id, commit):
        return Path(snapshot_download(id, revision=commit, allow_patterns=patterns))


@contextlib.contextmanager
def _telling(id: str, revision: str | None) -> Iterator[None]:
    """Makes one sentence of whatever goes wrong with a hub."""
    try:
        yield
    except Exception as error:
        raise ModelError(_sentence(error, id, revision)) from error


def _sentence(error: Exception, id: str, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    at = f"{id}@{revision}" if revision else id
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{id} is gated: ask for access at {constants.ENDPOINT}/{id}, then set HF_TOKEN or log "
            "in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the model hub's {id} has no branch, tag or commit {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no folder {id}, and the model hub has no model of that name, or none for "
            "this token (set HF_TOKEN or log in with `hf auth login` if it is private)"
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"the model hub does not give {at} to this token (HF_TOKEN, or `hf auth login`)"
    if constants.HF_HUB_OFFLINE:
        return (
            f"there is no folder {id}, and the model hub is not asked (HF_HUB_OFFLINE): not all of "
            f"{at} is in the cache {constants.HF_HUB_CACHE}"
        )
    if isinstance(error, errors.RevisionResolutionError | errors.LocalEntryNotFoundError):
        return (
            f"the model hub {constants.ENDPOINT} cannot be reached, and not all of {at} is in the "
            f"cache {constants.HF_HUB_CACHE}"
        )
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the model hub {constants.ENDPOINT} gives no {at}: {first}"
