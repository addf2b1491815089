"""Weights that leave the device for a while, and come back as they were, bit for bit."""

import contextlib
import ctypes
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from roles.refusals import Unsupported
from roles.split.weights.adapters import Adapters
from transfer.actions import Slept, Woken
from transfer.messages import Speed
from transfer.speed import why_fixed

Identity = tuple[tuple[str, int, int, int], ...]  # path, inode, bytes, modified ns


class Asleep(Exception):
    """Something was asked for that needs the weights."""


@dataclass(frozen=True)
class Part:
    """A component whose weights are real here. `read` makes it once more, with the weights of these
    `files`, on the device; `identity` says which files they were when they were read."""

    module: Any
    read: Callable[[], Any]
    files: list[Path]
    identity: Identity

    @classmethod
    def of(cls, module: Any, read: Callable[[], Any], files: list[Path]) -> "Part":
        return cls(module, read, files, identity(files))

    @property
    def changed(self) -> bool:
        """The files are other ones by now."""
        return identity(self.files) != self.identity


class Sleeper:
    """The `parts` of one program. `level`: 0 awake, 1 the weights lie in the host's memory, 2 they
    are nowhere.

    Modules stay the same objects all the time, so whatever knows them goes on knowing them. Tensors
    that are neither parameters nor buffers stay where they are: they are few and small. What raises
    has changed nothing.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        device: torch.device,
        adapters: Adapters | None,
        speed: Speed | None,
    ) -> None:
        self.level = 0
        self.parts = dict(parts)
        self._device = device
        self._adapters = adapters
        self._speed = speed

    def sleep(self, level: int) -> Slept:
        """Raises `Unsupported`; ValueError if it sleeps at the other level."""
        if self.level and self.level != level:
            raise ValueError(f"it sleeps at level {self.level}; wake it first")
        if self.level:
            return Slept(level, False, 0, 0)
        self._check_supported(level)
        device, host = self._used()
        if level == 2:
            self._drop()
        else:
            self._leave()
        self.level = level
        _give_back()
        now_device, now_host = self._used()
        return Slept(level, True, device - now_device, host - now_host)

    def wake(self) -> Woken:
        """Raises what the device and the disk raise; ValueError if files have changed meanwhile."""
        level, (before, _) = self.level, self._used()
        if level == 2:
            self._read()
        elif level == 1:
            self._move(self._device)
        self.level = 0
        return Woken(level, self._used()[0] - before)

    # ------------------------------------------------------------ how

    def _check_supported(self, level: int) -> None:
        if (reason := why_fixed(self._speed)) is not None:
            raise Unsupported(reason)
        if self._speed is not None and self._speed.quantize:
            raise Unsupported("started with --quantize, whose weights cannot be moved")
        if self._speed is not None and self._speed.compile and level == 2:
            raise Unsupported("started with --compile, which knows these very weights; level 1 can")

    def _leave(self) -> None:
        """Adapters go with the weights, those that do not act too."""
        if self._adapters is not None:
            self._adapters.gather()
        self._move("cpu")

    def _move(self, device: Any) -> None:
        """What cannot be moved there is moved back."""
        try:
            for part in self.parts.values():
                part.module.to(device)
        except BaseException:
            back = self._device if torch.device(device).type == "cpu" else "cpu"
            for part in self.parts.values():
                part.module.to(back)
            _give_back()
            raise

    def _drop(self) -> None:
        if self._adapters is not None:
            self._adapters.put_away()
        for part in self.parts.values():
            part.module.to("meta")

    def _read(self) -> None:
        try:
            if any(part.changed for part in self.parts.values()):
                raise ValueError(
                    "the model's files have changed on disk since its weights were read"
                )
            for part in self.parts.values():
                _graft(part.module, part.read(), self._of_others(part))
            if self._adapters is not None:
                self._adapters.bring_back()
        except BaseException:
            for part in self.parts.values():
                part.module.to("meta")
            _give_back()
            raise

    def _of_others(self, part: Part) -> set[int]:
        """The ids of all modules of which other components are made."""
        others = (each.module for each in self.parts.values() if each is not part)
        return {id(module) for other in others for module in other.modules()}

    def _used(self) -> tuple[int, int]:
        """Bytes of this process: on its device, and in the host's memory."""
        host = psutil.Process().memory_info().rss
        if self._device.type != "cuda":
            return 0, host
        return torch.cuda.memory_reserved(self._device), host


def identity(files: list[Path]) -> Identity:
    """What tells these files from later ones at the same paths."""
    told = ((str(file), file.stat()) for file in files)
    return tuple((path, x.st_ino, x.st_size, x.st_mtime_ns) for path, x in told)


def _graft(module: torch.nn.Module, fresh: torch.nn.Module, of_others: Collection[int]) -> None:
    """Gives a module the weights of another one of the same making. Those that several of its parts
    share are shared again. What it has from another component (`of_others`, by id), as Z-Image's
    ControlNets have blocks of the transformer, gets its weights there."""
    theirs = dict(fresh.named_modules(remove_duplicate=False))
    mine = {
        name: place
        for name, place in module.named_modules(remove_duplicate=False)
        if name in theirs or id(place) not in of_others
    }
    if mine.keys() != theirs.keys():
        raise ValueError("the model on disk is made of other parts than this one")
    for name, place in mine.items():
        place._parameters.update(theirs[name]._parameters)
        place._buffers.update(theirs[name]._buffers)


def _give_back() -> None:
    """What was freed, to the device and to the operating system."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
