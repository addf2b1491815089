"""The ranks of an instance, joined through torch.distributed: gloo on CPUs, NCCL on GPUs.

Every rank executes the same calls of the leader in the same order, and holds the same latents and
random generators. What they divide are single forwards; after each all of them agree that all have
done it, before any of them uses the result. So a rank that fails is known to all, and no rank goes
on with what another one has not.
"""

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from roles.meeting import path
from roles.parallel import Parallel

WAIT_S = 3600.0  # for another rank, which may be loading; the leader has shorter deadlines
GRACE_S = 10.0  # for the others to fail too, of a forward in which they wait for each other
ROLL_CALL_S = 2.0  # for a rank that has lost the others too to say so
MESSAGE_BYTES = 480
CHUNK_BYTES = 16 << 20  # of what goes to other hosts, so that it lies in memory once
_WORD = struct.Struct(f"<BxxxIQH{MESSAGE_BYTES}s")
_CONTEXT = ("ring", "ulysses")

T = TypeVar("T")


class RankFailed(RuntimeError):
    """Another rank of this instance could not do its part; says which, and why."""


class RanksApart(BaseException):
    """The ranks have lost each other, or do different things: only their end can mend that. Past
    every `except Exception`, because no request's error is meant."""


class World:
    """This rank among the others. Made by `World.join`; every method is called by all ranks.

    `guidance`: the group whose ranks divide samples, `part` this rank's place in it. `mesh`: of
    those that divide tokens or weights, for diffusers. `patience_s`: for so long another rank is
    waited for. `here`: the ranks from 0 on that are on the leader's host.
    """

    def __init__(self, rank: int, parallel: Parallel, mesh: DeviceMesh, here: int) -> None:
        self.rank = rank
        self.here = here
        self.parallel = parallel
        self.mesh = mesh
        self.guidance: dist.ProcessGroup = mesh.get_group("guidance")
        self.part: int = mesh.get_local_rank("guidance")
        self.patience_s = WAIT_S
        self._agreements = 0
        self._roll_call = dist.new_group(backend="gloo")  # where no collective can be stuck
        elsewhere = range(here, parallel.ranks)
        self._hosts = dist.new_group([0, *elsewhere], backend="gloo") if elsewhere else None

    @classmethod
    def join(cls, rank: int, parallel: Parallel, fd: int, device: str) -> "World":
        """Meets the others, all on this host (`roles.meeting`); done when all are there. Raises
        RanksApart."""
        with _or_apart():
            store = dist.FileStore(path(fd), parallel.ranks)  # type: ignore[attr-defined]
        return cls.join_in(store, rank, parallel, device, parallel.ranks, "lo")

    @classmethod
    def join_in(
        cls,
        store: dist.Store,  # type: ignore[name-defined]
        rank: int,
        parallel: Parallel,
        device: str,
        here: int,
        interface: str | None,
    ) -> "World":
        """The same by any store. `interface`: the network's, over which ranks talk; None: torch
        chooses one by the name of this host."""
        on_gpu = device.startswith("cuda")
        if interface is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        if interface is not None and interface != "lo":  # with lo, NCCL finds what is faster
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
        if on_gpu:  # or the mesh would choose another device by itself
            torch.cuda.init()  # type: ignore[no-untyped-call]
        shape = (parallel.guidance, parallel.ring, parallel.ulysses, parallel.tensor)
        names = ("guidance", *_CONTEXT, "tensor")
        with _or_apart():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=store,
                rank=rank,
                world_size=parallel.ranks,
                timeout=timedelta(seconds=WAIT_S),
            )
            mesh = init_device_mesh("cuda" if on_gpu else "cpu", shape, mesh_dim_names=names)
            if parallel.tokens > 1:
                mesh[_CONTEXT]._flatten()  # a group of its own, which all make together here
            return cls(rank, parallel, mesh, here)

    def leave(self) -> None:
        """Says good-bye; nothing is done together any more."""
        with contextlib.suppress(Exception):
            dist.destroy_process_group()

    # ------------------------------------------------------------ agreements

    def agree(self, error: Exception | None, token: int = 0, forward: bool = False) -> None:
        """All ranks have done their part of something, or one of them has failed. `forward`: it was
        one of the transformer, in which others may be waiting for what this rank computes of it.

        Raises this rank's own `error`; `RankFailed` if only others failed, or if their `token`, a
        checksum of what it was done with, is another one; and `RanksApart`.
        """
        text = "" if error is None else f"{type(error).__name__}: {error}"
        amid = error is not None and forward and self.parallel.entwined
        try:
            words = self._exchange(error is not None, token, text, GRACE_S if amid else None)
        except RanksApart as apart:
            if amid:  # the others wait for its part, and cannot be told
                raise RanksApart(f"it failed alone, in a forward of all: {text}") from error
            raise apart from error
        if error is not None:
            raise error
        for rank, (failed, _, message) in enumerate(words):
            if failed:
                raise RankFailed(f"rank {rank}: {message}")
        others = [rank for rank, (_, theirs, _) in enumerate(words) if theirs != token]
        if others:
            raise RankFailed(
                f"rank {others[0]} does not hold what rank {self.rank} holds: the devices of an "
                "instance's ranks have to be of one kind"
            )

    def all(self, mine: bool) -> bool:
        """Whether all ranks say yes."""
        return not any(no for no, _, _ in self._exchange(not mine, 0, ""))

    def together(self, work: Callable[[], T], forward: bool = False) -> T:
        """What `work` gives, if it succeeds in all ranks. Raises what `agree` raises."""
        try:
            result, error = work(), None
        except Exception as reason:
            error = reason
        self.agree(error, forward=forward)
        return result

    def gather(self, part: torch.Tensor) -> list[torch.Tensor]:
        """The parts of the ranks that divide samples, which have one shape, in order."""
        mine = part.contiguous().reshape(-1).view(torch.uint8)  # gloo does not know every dtype
        parts = [torch.empty_like(mine) for _ in range(self.parallel.guidance)]
        try:
            dist.all_gather(parts, mine, group=self.guidance)
        except Exception as error:
            raise self._lost(error) from error
        return [each.view(part.dtype).reshape(part.shape) for each in parts]

    def share(self, owned: Sequence[tuple[int, torch.Tensor]]) -> None:
        """Fills each of these contiguous tensors, in all ranks, with what the rank before it in its
        pair holds."""
        try:
            pending = [
                dist.broadcast(tensor.reshape(-1).view(torch.uint8), owner, async_op=True)
                for owner, tensor in owned
            ]
            for each in pending:
                each.wait(timedelta(seconds=self.patience_s))
        except Exception as error:
            raise self._lost(error) from error

    def spread(self, nbytes: int, segments: Sequence[memoryview] | None) -> list[memoryview]:
        """The bytes of rank 0 for the ranks of other hosts; called by these, and by rank 0, which
        gets back what it gave. Of nothing (None in rank 0) the others get zeros."""
        if self._hosts is None:
            return list(segments or [])
        if self.rank == 0:
            for chunk in _chunks(nbytes, segments):
                self._broadcast(chunk)
            return list(segments or [])
        buffer = torch.empty(nbytes, dtype=torch.uint8)
        for at in range(0, nbytes, CHUNK_BYTES):
            self._broadcast(buffer[at : at + CHUNK_BYTES])
        return [buffer.numpy().data]

    def _broadcast(self, chunk: torch.Tensor) -> None:
        try:
            pending = dist.broadcast(chunk, 0, group=self._hosts, async_op=True)
            pending.wait(timedelta(seconds=self.patience_s))
        except Exception as error:
            raise self._lost(error) from error

    def _exchange(
        self, no: bool, token: int, text: str, seconds: float | None = None
    ) -> list[tuple[bool, int, str]]:
        """What each rank says."""
        self._agreements += 1
        message = text.encode("utf-8", "replace")[:MESSAGE_BYTES]
        word = _WORD.pack(no, self._agreements % (1 << 32), token, len(message), message)
        mine = torch.frombuffer(bytearray(word), dtype=torch.uint8)
        every = torch.empty(self.parallel.ranks * _WORD.size, dtype=torch.uint8)
        try:
            pending = dist.all_gather(list(every.chunk(self.parallel.ranks)), mine, async_op=True)
            pending.wait(timedelta(seconds=seconds or self.patience_s))
        except Exception as error:
            raise self._lost(error) from error
        data = every.numpy().tobytes()
        words = [_WORD.unpack_from(data, rank * _WORD.size) for rank in range(self.parallel.ranks)]
        if any(number != self._agreements % (1 << 32) for _, number, _, _, _ in words):
            raise RanksApart("the ranks are at different places of their work")
        return [
            (bool(no), token, message[:length].decode("utf-8", "replace"))
            for no, _, token, length, message in words
        ]

    def _lost(self, error: Exception) -> RanksApart:
        """What is told of the end, with the ranks that are the reason: those that do not answer.
        When one rank gives up, the others hear of it at once, and call the roll too."""
        absent = [f"rank {rank}" for rank in self._absent()]
        return RanksApart(f"it lost {' and '.join(absent) or 'the others'}: {_first(error)}")

    def _absent(self) -> list[int]:
        others = [rank for rank in range(self.parallel.ranks) if rank != self.rank]
        here, there = torch.zeros(1), torch.zeros(1)
        absent: list[int] = []
        pending: list[tuple[int, Any, Any]] = []
        for rank in others:
            try:
                sent = dist.isend(here, rank, group=self._roll_call)
                pending.append((rank, sent, dist.irecv(there, rank, group=self._roll_call)))
            except Exception:
                absent.append(rank)
        until = time.monotonic() + ROLL_CALL_S
        for rank, _, received in pending:
            try:
                received.wait(timedelta(seconds=max(until - time.monotonic(), 0.001)))
            except Exception:
                absent.append(rank)
        return sorted(absent)


def _chunks(nbytes: int, segments: Sequence[memoryview] | None) -> Iterator[torch.Tensor]:
    """The bytes of these in pieces of equal size; zeros for None."""
    chunk = torch.zeros(min(nbytes, CHUNK_BYTES), dtype=torch.uint8)
    view, filled = chunk.numpy().data, 0
    for segment in segments if segments is not None else [memoryview(bytes(nbytes))]:
        rest = segment.cast("B")
        while rest:
            size = min(len(rest), len(view) - filled)
            view[filled : filled + size] = rest[:size]
            rest, filled = rest[size:], filled + size
            if filled == len(view):
                yield chunk
                filled = 0
    if filled:
        yield chunk[:filled]


@contextlib.contextmanager
def _or_apart() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RanksApart(f"it could not join the others: {_first(error)}") from error


def _first(error: Exception) -> str:
    """The first sentence of what a library says."""
    return str(error).strip().partition("\n")[0].partition(". ")[0]
