"""Other weights in the place of those that compute, without a restart.

The modules and their tensors stay the same objects: only what is in them changes, all of it or, if
anything goes wrong, none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from roles.refusals import Unsupported
from roles.split.files.components import Loader, part_of
from roles.split.files.elsewhere import CONFIG
from roles.split.files.folder import ComponentEntry, weights_in
from roles.split.modular.index import INDEX
from roles.split.program import ModelError
from roles.split.skeleton import stored_buffers
from roles.split.weights.sleeper import Part, Sleeper, identity
from transfer.actions import PutWeights, UpdateWeights, WeightsFile, WeightsUpdated
from transfer.messages import Speed
from transfer.speed import why_fixed

READ_BYTES = 1 << 20
CPU = torch.device("cpu")
# what a configuration tells of its file, and not of the model
IDLE = {"transformers_version", "dtype", "torch_dtype", "architectures"}


@dataclass(frozen=True)
class Wanted:
    """Where a component's weights are to come from, and their checksum, if it is known. `path`
    None: from where they came at the start, whose checksum is the empty one."""

    path: Path | None
    digest: str | None


@dataclass(frozen=True)
class Fresh:
    """A component that was read, in the host's memory. `part`: what takes its place if it sleeps
    and wakes up; `file`: what is told of it."""

    module: Any
    part: Part
    file: WeightsFile


class Exchange:
    """Of the `sleeper`'s parts. What raises has changed nothing.

    The new weights are read into the host's memory first, and compared with the old ones: names,
    shapes, dtypes and configuration are the same, or they are refused. Adapters stay on top.
    """

    def __init__(self, sleeper: Sleeper, loader: Loader, speed: Speed | None) -> None:
        self._sleeper = sleeper
        self._loader = loader
        self._speed = speed
        self._origins = dict(sleeper.parts)
        self._digests: dict[str, str] = {}  # of those that were changed
        self._entries = {entry.name: entry for entry in loader.folder.components}

    @property
    def components(self) -> list[str]:
        """What can be changed here."""
        return list(self._sleeper.parts)

    def update(self, action: UpdateWeights) -> WeightsUpdated:
        """Raises `Unsupported`; ValueError if the checksum is another one, or the weights do not
        fit; FileNotFoundError; what reading raises."""
        found = _found(Path(action.path), action.components)
        checksums = _checksums(action, found)
        mine = {name: path for name, path in found.items() if name in self._sleeper.parts}
        return self._put({name: Wanted(path, checksums.get(name)) for name, path in mine.items()})

    def put(self, action: PutWeights) -> WeightsUpdated:
        """What is here already is not read again. Raises what `update` does."""
        mine = [x for x in action.weights if x.component in self._sleeper.parts]
        there = [x for x in mine if self._digests.get(x.component, "") == x.digest]
        told = self._put(
            {
                x.component: Wanted(Path(x.path) if x.path else None, x.digest)
                for x in mine
                if x not in there
            }
        )
        known = [WeightsFile(x.component, x.path, x.digest, 0) for x in there]
        return WeightsUpdated(told.weights + known, told.fresh)

    def _put(self, wanted: Mapping[str, Wanted]) -> WeightsUpdated:
        self._check_supported(wanted)
        told: dict[str, WeightsFile] = {}
        fresh: dict[str, Fresh] = {}
        for name, each in wanted.items():
            files = self._files(name, each.path)
            before = identity(files)
            file = told[name] = self._identified(name, each, files)
            if file.digest != self._digests.get(name, ""):
                fresh[name] = self._read(name, each.path, files, file)
            if before != identity(files):
                raise ValueError(f"the weights of {name} have changed while they were read")
        if fresh:
            self._exchange(fresh)
        return WeightsUpdated(list(told.values()), bool(fresh))

    # ------------------------------------------------------------ reading

    def _check_supported(self, names: Mapping[str, Any]) -> None:
        denoisers = [name for name in names if part_of(name) == "denoiser"]
        if self._speed is None or not denoisers:
            return
        if (reason := why_fixed(self._speed)) is not None:
            raise Unsupported(reason)
        if self._speed.quantize:
            raise Unsupported("started with --quantize, which keeps other weights than the files'")
        if self._speed.compile:
            raise Unsupported("started with --compile, which knows these very weights")

    def _files(self, name: str, path: Path | None) -> list[Path]:
        if path is None:
            origin = self._origins[name]
            if origin.changed:
                raise ValueError(f"the model's files of {name} have changed since the start")
            return origin.files
        if files := weights_in(path):
            return files
        raise FileNotFoundError(f"there is no safetensors file in {path}")

    def _identified(self, name: str, wanted: Wanted, files: list[Path]) -> WeightsFile:
        """Which weights these are, by their bytes."""
        if wanted.path is None:
            return WeightsFile(name, "", "", _size(files))
        digest = checksum(files)
        if wanted.digest not in (None, digest):
            raise ValueError(f"{wanted.path}: the checksum is {digest}, not {wanted.digest}")
        return WeightsFile(name, str(wanted.path), digest, _size(files))

    def _read(self, name: str, path: Path | None, files: list[Path], file: WeightsFile) -> Fresh:
        entry = self._entries[name]
        mine = self._sleeper.parts[name].module
        module = self._load(entry, path, type(mine).__name__)
        _check_config(name, mine, module)
        part = self._origins[name] if path is None else self._part(entry, mine, path, files)
        return Fresh(module, part, file)

    def _load(self, entry: ComponentEntry, path: Path | None, kind: str) -> Any:
        try:
            return replace(self._loader, device=CPU).real(entry, path)
        except ModelError as error:
            other = _class_in(path) if path is not None else None
            if other in (None, kind):
                raise
            text = f"{entry.name} does not fit: {path} has a {other}, not a {kind}"
            raise ValueError(text) from error

    def _part(self, entry: ComponentEntry, mine: Any, path: Path, files: list[Path]) -> Part:
        return Part.of(mine, partial(self._loader.real, entry, path), files)

    # ------------------------------------------------------------ exchanging

    def _exchange(self, fresh: Mapping[str, Fresh]) -> None:
        _swap([pair for name, each in fresh.items() for pair in self._pairs(name, each)])
        for name, each in fresh.items():
            self._sleeper.parts[name] = each.part
            self._digests[name] = each.file.digest

    def _pairs(self, name: str, fresh: Fresh) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor with the one that takes its place. Raises ValueError if they do not fit."""
        module = self._sleeper.parts[name].module
        mine, theirs = dict(_tensors(module)), dict(_tensors(fresh.module))
        if mine.keys() != theirs.keys():
            other = min(mine.keys() ^ theirs.keys())
            raise ValueError(f"{name} does not fit: one of both has no {other}")
        for key, old in mine.items():
            new = theirs[key]
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                text = f"{_form(new)} in place of {_form(old)}"
                raise ValueError(f"{name} does not fit: {key} is {text}")
        if part_of(name) == "decoder":
            self._check_statistics(name, module, theirs)
        return [(old, theirs[key]) for key, old in mine.items()]

    def _check_statistics(self, name: str, module: Any, theirs: Mapping[str, torch.Tensor]) -> None:
        """Every role has read the few numbers of a VAE that are no parameters."""
        buffers = dict(module.named_buffers())
        for key in stored_buffers(module):
            if key in theirs and not torch.equal(buffers[key].cpu(), theirs[key]):
                raise ValueError(f"{name} has another {key}, which all roles have read: restart")


def checksum(files: list[Path]) -> str:
    """What `sha256sum *.safetensors | sha256sum` prints in their folder."""
    lines = "".join(f"{_sha256(file)}  {file.name}\n" for file in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while data := opened.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _found(path: Path, components: list[str]) -> dict[str, Path]:
    """The folders of these components, as far as they are there."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if (path / INDEX).is_file() or not weights_in(path):
        return {name: path / name for name in components if weights_in(path / name)}
    if len(components) == 1:
        return {components[0]: path}
    if path.name in components:
        return {path.name: path}
    raise ValueError(f"{path} is one component's: say in `components` which, of {components}")


def _checksums(action: UpdateWeights, found: Mapping[str, Path]) -> Mapping[str, str]:
    if not isinstance(action.checksum, str):
        checksums = action.checksum or {}
        if lost := checksums.keys() - found.keys():
            raise ValueError(f"{action.path} has no weights of {', '.join(sorted(lost))}")
        return checksums
    if len(found) != 1:
        raise ValueError(f"one checksum of {len(found)} components: give one for each, by name")
    return dict.fromkeys(found, action.checksum)


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Each once, whatever the names are under which it is known; by the name that it has without
    adapters, whose own tensors are left out."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not any(part.startswith("lora_") for part in name.split(".")):
            yield name.replace(".base_layer.", "."), tensor


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _swap(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Exchanges what is in them, one by one. If one fails, those before it are changed back."""
    done = []
    try:
        for here, there in pairs:
            kept = here.to(CPU, copy=True)
            done.append((here, kept))
            here.copy_(there)
            there.copy_(kept)
    except BaseException:
        for here, kept in done:
            here.copy_(kept)
        raise


def _class_in(path: Path) -> str | None:
    """What the weights in this folder are of, if it is of diffusers and says so."""
    try:
        name = json.loads((path / CONFIG).read_bytes()).get("_class_name")
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _check_config(name: str, mine: Any, theirs: Any) -> None:
    """The same tensors may be another model all the same."""
    old, new = _plain(mine.config), _plain(theirs.config)
    if old == new:
        return
    other = min(k for k in {*old, *new} if old.get(k) != new.get(k))
    text = f"its {other} is {new.get(other)!r} in place of {old.get(other)!r}"
    raise ValueError(f"{name} does not fit: {text}")


def _plain(config: Any) -> dict[str, Any]:
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {
        key: _plain(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if not str(key).startswith("_") and key not in IDLE
    }
