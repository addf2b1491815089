"""Keeps an instance's ranks alive: starts them, has them load the model, starts them again."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

import roles
from roles.backoff import Backoff
from roles.calls import Act, Load, Loaded, Meanwhile, Warm
from roles.leader.door import Door
from roles.leader.fittings import Fittings
from roles.leader.pool import Results, WorkerPool
from roles.leader.process import RankCommand
from roles.meeting import Meeting
from roles.nodes.hub import Hub, NodesMissing
from roles.options import RoleOptions
from roles.origins import NOTHING, write
from transfer.actions import Health
from transfer.ends import PoolEnd
from transfer.keys import KeyPair
from transfer.messages import ModelInfo, RankInfo, RankState, Speed
from transfer.speed import is_tuned

log = logging.getLogger(__name__)

RANK = "roles.rank"  # the module that is run as a rank
LOAD_S = 3600.0  # some models lie on slow disks
GATHER_S = 600.0  # for the other hosts of an instance to join
TEST_S = 600.0  # for the first thing that a device computes
STEADY_S = 60.0  # ranks that lived so long were not broken from the start
PATIENCE = 0.9  # of --rank-timeout; ranks that wait for a hung one then say which it is
MAX_RESTARTS = 8  # in a row; then the process ends, and its supervisor decides


class CannotLoad(Exception):
    """The ranks do not come up; the message is one sentence for whoever started the instance."""


class Keeper:
    """The pool of the day, and the next one when it is lost.

    `await start()` brings up the first pool, or raises `CannotLoad`. Then `run()` warms it up,
    where that is needed, waits for its end, closes what is left of it, and makes another after 0.5,
    1, 2 … 30 s, each given to the engine's `door` once its ranks are what those before them were.
    `on_ready` is called when ranks are ready that were not at the start, `on_warmed` when `warmed`
    has changed: forwards of the warm-up that are behind it, and how many there are. All ranks go
    together: those that survived wait for answers of the dead one.
    """

    def __init__(
        self,
        options: RoleOptions,
        program: str,
        pool_fd: int,
        door: Door,
        on_ready: Callable[[], None],
        on_warmed: Callable[[], None],
        hub: Hub | None = None,
        keys: KeyPair | None = None,
    ) -> None:
        self.info: ModelInfo | None = None
        self.parts: list[str] = []  # whose weights can be changed
        self.adaptable: list[str] = []  # that adapters may change
        self.fittings = Fittings()
        self.warmed: tuple[int, int] | None = None
        self._options = options
        self._program = program
        self._pool_fd = pool_fd
        self._meeting: Meeting | None = None
        self._door = door
        self._on_ready = on_ready
        self._on_warmed = on_warmed
        self._hub = hub
        self._keys = keys
        self._pool = self._new_pool()
        self._loaded = self._ready = False
        self._backoff = Backoff(0.5, 30.0)

    async def start(self) -> ModelInfo:
        """Brings up ranks that have loaded the model. Raises `CannotLoad`."""
        while True:
            try:
                info = await self._load()
            except CannotLoad as error:
                missing = isinstance(error.__cause__, NodesMissing)
                if missing or self._hub is None or self._hub.complete:
                    raise
                log.warning("%s; it is waited for", error)  # a host that went away meanwhile
                await self._pool.kill()
                self._pool = self._new_pool()
            else:
                self._door.attach(self._pool)
                return info

    async def _load(self) -> ModelInfo:
        try:
            if self._hub is not None:
                await self._hub.gathered(GATHER_S)
            began = time.monotonic()
            await self._pool.start()
        except (OSError, NodesMissing) as error:
            missing = isinstance(error, NodesMissing)
            raise CannotLoad(f"{'' if missing else 'a rank cannot be started: '}{error}") from error
        finally:
            if self._meeting is not None:
                self._meeting.close()
        options = self._options
        speed = options.speed()
        plain = speed is None or speed == Speed(options.dtype)
        load = Load(
            options.model,
            list(options.roles),
            options.dtype,
            speed=None if plain else speed,
            origins=None if options.origins == NOTHING else options.origins,
        )
        info = self._info(await self._pool.call(load, LOAD_S))
        self._loaded = True
        await self._prove()
        self._ready = not self.warms
        log.info("%s loaded in %.1f s", info.name, time.monotonic() - began)
        await self.fittings.refit(self._pool.call)
        return info

    async def _prove(self) -> None:
        """Raises `CannotLoad` of ranks whose devices do not compute, or wrongly."""
        result = await self._pool.call(Act(Health()), TEST_S)
        if not result.ok:
            raise CannotLoad(f"the ranks do not pass their self-test: {result}")

    async def run(self) -> None:
        """Never returns. Raises `CannotLoad` when it gives up."""
        if self.warms:
            await self._warm()
            self._on_ready()
        while True:
            since = time.monotonic()
            death = await asyncio.shield(self._pool.died)
            self._loaded = self._ready = False
            if time.monotonic() - since > STEADY_S:
                self._backoff.reset()
            log.error("%s; the ranks are started again", death)
            await self._pool.close()
            await self._restart()
            self._on_ready()

    @property
    def warms(self) -> bool:
        """Whether ranks that have loaded the model run it once before they are ready."""
        return is_tuned(self._options.speed())

    async def _warm(self) -> None:
        """Raises `CannotLoad` if the model does not run as it is asked to."""
        began = time.monotonic()
        log.info("warming up: the first forwards are compiled")

        def note(said: Meanwhile) -> None:
            if said.warmed is not None:
                self.warmed = said.warmed
                since = time.monotonic() - began
                log.info("warming up: %d of %d forwards, %.1f s", *said.warmed, since)
                self._on_warmed()

        try:
            result = await self._pool.call(Warm(), LOAD_S, note)
        finally:
            self.warmed = None
        if not result.ok:
            raise CannotLoad(_sentence(result, self._options.model))
        self._ready = True
        log.info("warmed up in %.1f s", time.monotonic() - began)

    async def close(self) -> PoolEnd:
        """Ends the ranks, politely; those that are still loading have nothing to lose."""
        self._door.shut()
        return await (self._pool.close() if self._loaded else self._pool.kill())

    async def kill(self) -> PoolEnd:
        """Ends the ranks at once."""
        self._door.shut()
        return await self._pool.kill()

    @property
    def pids(self) -> list[int]:
        return self._pool.pids

    def ranks(self) -> list[RankInfo]:
        """What the orchestrator is told of the ranks."""
        awake: RankState = "sleeping" if self.fittings.sleeps else "ready"
        alive: RankState = awake if self._ready else "starting"
        device = self._hub.device if self._hub is not None else self._options.rank_device
        return [
            RankInfo(rank, pid, "dead" if dead else alive, device(rank), host)
            for rank, (pid, dead, host) in enumerate(
                zip(self._pool.pids, self._pool.dead, self._pool.hosts, strict=True)
            )
        ]

    async def _restart(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next())
            self._pool = self._new_pool()
            try:
                await self._load()
                if self.warms:
                    await self._warm()
                await self._rest()
                self._door.attach(self._pool)
                return
            except CannotLoad as error:
                await self._pool.kill()
                if self._backoff.failures >= MAX_RESTARTS:
                    raise
                log.error("%s; trying again", error)

    async def _rest(self) -> None:
        """Raises `CannotLoad` of new ranks that cannot sleep as the old ones did."""
        result = await self.fittings.rest(self._pool.call)
        if result is not None and not result.ok:
            raise CannotLoad(f"the new ranks cannot go to sleep: {result}")

    def _new_pool(self) -> WorkerPool:
        """Ranks that have not met any others yet."""
        options, hub = self._options, self._hub
        self._meeting = Meeting() if options.joins and hub is None else None
        fd = self._meeting.fd if self._meeting else None
        life = hub.begin_life() if hub is not None else None
        commands = [
            rank_command(options, rank, self._program, self._pool_fd, fd, life, self._keys)
            for rank in _ranks(options)
        ]
        return WorkerPool(commands) if hub is None else WorkerPool(commands, hub.rank)

    def _info(self, result: Results) -> ModelInfo:
        if not result.ok:
            raise CannotLoad(_sentence(result, self._options.model))
        assert isinstance(result.first.value, Loaded)
        info = result.first.value.info
        for other in result.results[1:]:
            assert isinstance(other.value, Loaded)
            # the same files may have other names there
            if replace(other.value.info, name=info.name, replaced=info.replaced) != info:
                raise CannotLoad(
                    f"rank {other.rank} on {other.host} has loaded another model than rank 0 on "
                    f"{result.first.host}: the files of --model have to be the same on all hosts"
                )
        if self._options.model_name is not None:
            info = replace(info, name=self._options.model_name, named=True)
        if self.info is not None and info != self.info:
            raise CannotLoad(f"the model at {self._options.model} is not the one of before")
        self.info, self.parts = info, result.first.value.parts
        self.adaptable = result.first.value.adaptable
        return info


def rank_command(
    options: RoleOptions,
    rank: int,
    program: str,
    pool_fd: int | None = None,
    meeting_fd: int | None = None,
    life: int | None = None,
    keys: KeyPair | None = None,
) -> RankCommand:
    """How one rank of this process is started; `program` is told in `roles.rank`. On a node there
    is no pool. `life` and `keys`: for ranks on several hosts."""
    flags: dict[str, object] = {
        "parent": os.getpid(),
        "rank": rank,
        "threads": options.thread_count(),
        "slice": options.slice_s if options.ranks == 1 or options.joins else 0.0,
        "device": options.rank_device(rank),
        "encoder-cache": options.encoder_cache,
        "program": program,
    }
    if options.cores_file is not None and options.ranks == 1:  # ranks of one do all the same
        # what is compiled is compiled for a number of threads: others learn when it computes, but
        # it does not use their cores
        cores = options.thread_count() if options.compile else options.cores
        flags |= {"cores": cores, "cores-file": options.cores_file}
    fds: list[int] = []
    if pool_fd is not None:
        fds.append(pool_fd)
        flags["pool-fd"] = pool_fd
    else:
        flags |= {"model": options.model, "origins": write(options.origins)}
    if options.joins:
        parallel = options.parallel or "guidance"
        flags |= {"ranks": options.ranks, "parallel": parallel}
        flags["patience"] = PATIENCE * options.rank_timeout_s
    if meeting_fd is not None:
        fds.append(meeting_fd)
        flags["join-fd"] = meeting_fd
    if life is not None and keys is not None:
        flags |= {"nnodes": options.nnodes, "rendezvous": options.rendezvous, "life": life}
        flags["keys"] = keys.folder
    argv = [f"--{name}={value}" for name, value in flags.items()]
    # -P: a file in the working directory that is called like a module must not be taken for it
    return RankCommand([sys.executable, "-P", "-m", RANK, *argv], _environment(), fds)


def _environment() -> dict[str, str]:
    """This process's own, with our packages in sight wherever they were imported from."""
    assert roles.__file__ is not None
    root = str(Path(roles.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _ranks(options: RoleOptions) -> range:
    return range(options.ranks)


def _sentence(result: Results, model: str) -> str:
    """Why the model is not there. A ModelError has said it; anything else is introduced."""
    worst = result.failures[0]
    assert worst.error is not None
    if worst.error.traceback is None and worst.error.kind == "raised":
        return worst.error.message
    if worst.error.traceback is not None:
        log.debug("%s", worst.error.traceback)
    return f"{model} cannot be loaded: {worst}"
