"""The leader of an instance: wires its parts together, and sees it through to its end.

`serve(options)` is the entry of `triptych serve --disagg-role ROLE`. Imports no torch.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from roles.leader.asked import Asked
from roles.leader.batch_costs import BatchCosts
from roles.leader.closing import Closing
from roles.leader.control import ControlClient, RegistrationRefused
from roles.leader.engine import Engine
from roles.leader.gallery import Gallery
from roles.leader.given import GivenFiles
from roles.leader.introduction import advertised, ready_line, this_host
from roles.leader.keeper import CannotLoad, Keeper
from roles.leader.lifecycle import RANKS_KILLED, Deadline, Lifecycle
from roles.leader.outbox import SENDERS, OutboxLine, outboxes
from roles.leader.pulse import Pulse
from roles.leader.scheduler import Scheduler
from roles.logs import configure
from roles.nodes.hub import Hub
from roles.options import RoleOptions
from roles.rank.arguments import PROGRAM
from transfer.addresses import is_loopback
from transfer.ends import PoolEnd
from transfer.errors import TransferError
from transfer.keys import KeyPair, cluster_keys
from transfer.media import MediaServer
from transfer.messages import (
    Abort,
    Ask,
    Heartbeat,
    InstanceState,
    Push,
    Register,
    Release,
    Role,
    StateChanged,
    Welcome,
    Work,
)
from transfer.pool import SlotPool
from transfer.transport import Transport

log = logging.getLogger(__name__)

RECEIVERS = ("denoiser", "decoder")  # roles that payloads are written to
LAST_WORK_S = 600.0  # for the orchestrator to say that nothing more will come
LAST_MEDIA_S = 30.0  # for the front door to read the last files
POLL_S = 0.05


def serve(options: RoleOptions, program: str = PROGRAM) -> int:
    """Runs an instance until it drained (0), was closed (0), refused or broken (1). 4: it has
    closed, but ranks of it did not end before they were killed.

    `program` is what `roles.rank --program` takes; it is there for tests, and no flag of ours, nor
    any message, reaches it.
    """
    configure()
    deadline = Deadline()
    try:
        return asyncio.run(_run(options, program, deadline))
    except (CannotLoad, RegistrationRefused, TransferError, OSError) as error:
        print(f"triptych: {options.role_names}: {error}", file=sys.stderr)
        return 1
    finally:
        deadline.cancel()


async def _run(options: RoleOptions, program: str, deadline: Deadline) -> int:
    keys = cluster_keys(options.keys)
    if options.media_store is not None and "://" not in options.media_store:
        os.makedirs(options.media_store, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        pool = stack.enter_context(_slots(options))
        transport = Transport(pool, options.transfer, options.advertise)
        stack.push_async_callback(transport.close)
        media = MediaServer(options.endpoint or _any_port(options.advertise), keys)
        await stack.enter_async_context(media)
        hub = Hub(options, keys) if options.nnodes > 1 else None
        if hub is not None:
            hub.bind()
        leader = Leader(options, program, pool, transport, media, keys, deadline, hub)
        return await leader.run()


def _any_port(advertise: str) -> str:
    """Where others can connect, if they can at all."""
    return "tcp://127.0.0.1:*" if is_loopback(advertise) else "tcp://0.0.0.0:*"


def _costs(options: RoleOptions) -> BatchCosts | None:
    """Ranks that are not joined do the same in the same order; each by itself might run out of
    memory, and divide a batch otherwise than the rest. So there every forward is one request's."""
    if options.ranks > 1 and not options.joins:
        return None
    return BatchCosts(prompt=options.schedule == "sjf")


def _slots(options: RoleOptions) -> SlotPool:
    """Memory only for what these roles do: nobody writes to an encoder, no decoder sends."""
    receives = any(role in RECEIVERS for role in options.roles)
    senders = sum(role in SENDERS for role in options.roles)
    return SlotPool.create(
        options.slots if receives else 1, options.slot_bytes, options.slots * senders
    )


class Leader:
    """One instance, from loading its model to its goodbye. It is the control client's `Orders`.

    States: starting (ranks are being restarted), divergent (they are about to be, because they do
    not agree), warming (they run the model for the first time),
    ready, sleeping, draining. What ends it sets `_exit`: an
    order to close, the end of draining, a second SIGTERM. A part that stops by itself is a crash,
    and ends it too. Then it is closing (`roles.leader.closing`), for which it has a `deadline`, and
    closed or failed: a part of it broke, or something did not end.
    """

    def __init__(
        self,
        options: RoleOptions,
        program: str,
        pool: SlotPool,
        transport: Transport,
        media: MediaServer,
        keys: KeyPair,
        deadline: Deadline,
        hub: Hub | None = None,
    ) -> None:
        self.name = options.given_name()
        self.life = Lifecycle(self.name)
        self._deadline = deadline
        self._options = options
        self._incarnation = secrets.token_hex(16)
        self._address = transport.address()
        self._media = media
        self._hub = hub
        self._endpoint = advertised(options, media.endpoint)
        self._outbox = OutboxLine(outboxes(pool, options.roles))
        self.control = ControlClient(options.orchestrator, self, keys)
        self.engine = Engine(
            self.name,
            options.capacity(),
            Scheduler(options.max_batch, _costs(options), options.schedule),
            pool,
            self._outbox,
            transport,
            Gallery(media, self._endpoint, options.media_store),
            self.control.send,
            lambda cause: self._change("starting", cause),
            options.rank_timeout_s,
            options.checkpoint_s,
            GivenFiles(options.orchestrator.rpartition(":")[0], keys),
        )
        self.keeper = Keeper(
            options,
            program,
            pool.fd,
            self.engine.door,
            self._ready_again,
            self._warmed,
            hub,
            keys,
        )
        self.asked = Asked(
            self.engine.door,
            self.keeper.fittings,
            self.control.send,
            self.keeper.ranks,
            self._changed,
            self._diverge,
        )
        self.pulse = Pulse(self.engine.door, self._rests)
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._draining: asyncio.Task[None] | None = None
        self._killing: asyncio.Task[PoolEnd] | None = None
        self._nothing_comes = asyncio.Event()
        self._announced = False
        self._forced = False
        self._reason = "it ended"

    async def run(self) -> int:
        """The instance's life; its exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        meeting = [loop.create_task(self._hub.run(self._begin_drain))] if self._hub else []
        code = 1
        try:
            code = await self._life(meeting)
        finally:
            await self._dismiss(meeting, code)
        return code

    async def _dismiss(self, meeting: list[asyncio.Task[Any]], code: int) -> None:
        """The other hosts end as this one does."""
        for task in meeting:
            task.cancel()
        await asyncio.gather(*meeting, return_exceptions=True)
        if self._hub is not None:
            await self._hub.close(code, self._reason)

    async def _life(self, meeting: list[asyncio.Task[Any]]) -> int:
        try:
            code = await self._live(meeting)
        except BaseException as error:
            self._reason = str(error) or type(error).__name__
            await self._close(broken=True)
            raise
        end = await self._close()
        if self._forced or end.state == "failed":
            return 1
        return RANKS_KILLED if end.killed else code

    async def _live(self, meeting: list[asyncio.Task[Any]]) -> int:
        async with _tasks(self.keeper.start()) as loading:
            await self._first([*loading, *meeting])
        if not self._exit.done():
            self.life.move("warming" if self.keeper.warms else "ready", "the model is loaded")
            self.engine.model, self.engine.capacity = self.keeper.info, self._capacity
            own = (self.engine.run(), self.keeper.run(), self.pulse.run())
            async with _tasks(*own, self.control.run()) as running:
                media = filter(None, [self._media.task])
                await self._first([*running, *media, *meeting])
        return self._exit.result()

    async def _first(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Waits for the exit, or for the first of these to end; raises what it raised."""
        waited: set[asyncio.Future[Any]] = {self._exit, *tasks}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    # ------------------------------------------------------------ orders of the orchestrator

    def register(self, last_epoch: int) -> Register:
        assert self.keeper.info is not None
        return Register(
            name=self.name,
            incarnation=self._incarnation,
            last_epoch=last_epoch,
            endpoint=self._endpoint,
            roles=list(self._options.roles),
            capacity=self._capacity,
            model=self.keeper.info,
            pool=self._address,
            ranks=self.keeper.ranks(),
            host=this_host(),
            media_store=self._options.media_store,
            may_land=self.engine.may_land,
            adapters=self.keeper.fittings.adapters,
            parts=self.keeper.parts,
            weights=self.keeper.fittings.weights,
            adaptable=self.keeper.adaptable,
        )

    def heartbeat(self, epoch: int) -> Heartbeat:
        return Heartbeat(epoch, self.engine.encodings, self.pulse.healthy)

    async def forget(self) -> None:
        await self.engine.forget()
        if self._draining is not None and self._announced:
            self._end(0, "the orchestrator was lost while it drained")

    def welcomed(self, welcome: Welcome) -> None:
        log.info("%s is registered, epoch %d", welcome.name, welcome.epoch)
        self._tell("registered")
        self._announce()

    def work(self, work: Work) -> None:
        self.engine.accept(work, self.control.epoch)

    def push(self, push: Push) -> None:
        self.engine.push(push, self.control.epoch)

    def release(self, release: Release) -> None:
        self.engine.release(release)

    def abort(self, abort: Abort) -> None:
        self.engine.abort(abort, self.control.epoch)

    def ask(self, ask: Ask) -> None:
        self.asked.ask(ask)

    def reload(self, cause: str) -> None:
        self._diverge(0, cause)

    def drain(self, more: bool) -> None:
        if not more:
            self._nothing_comes.set()
        self._begin_drain("the orchestrator asked for it")

    def close(self, reason: str) -> None:
        self._end(0, reason)

    # ------------------------------------------------------------ state

    @property
    def _capacity(self) -> dict[Role, int]:
        assert self.keeper.info is not None
        return self._options.capacity(writes=bool(self.keeper.info.generates))

    def _diverge(self, rank: int, cause: str) -> None:
        """The ranks are not what they should be, and others take their place, with nothing of what
        these have. Their requests go elsewhere."""
        self.keeper.fittings.clear()
        self._change("divergent", cause)
        self.engine.door.condemn(rank, cause)

    def _ready_again(self) -> None:
        self._change(self._at_rest, "the ranks are there")
        self._announce()

    @property
    def _at_rest(self) -> InstanceState:
        return "sleeping" if self.keeper.fittings.sleeps else "ready"

    def _rests(self) -> bool:
        """Its ranks could work, and have nothing to do."""
        able = self.life.state in ("ready", "draining") and self.keeper.fittings.changing is None
        return able and not self.engine.computing

    def _changed(self, cause: str) -> None:
        """Something that all ranks have has changed, or may have."""
        state = self.life.state
        self._change(self._at_rest if state in ("ready", "sleeping") else state, cause)

    def _warmed(self) -> None:
        self._tell("it warms up")

    def _announce(self) -> None:
        """The ready line, once it can be given work."""
        registered = self.control.registered.is_set()
        if registered and self.life.state == "ready" and not self._announced:
            self._announced = True
            if self._hub is not None:
                self._hub.ready(self.name)
            print(ready_line(self._options, self.name, self.keeper.pids), flush=True)

    def _change(self, state: InstanceState, cause: str) -> None:
        self.life.move(state, cause)
        self._tell(cause)

    def _tell(self, cause: str) -> None:
        ranks = self.keeper.ranks()
        keeper, epoch = self.keeper, self.control.epoch
        had = (keeper.fittings.adapters, keeper.fittings.weights)
        state = self.life.state
        self.control.send(StateChanged(epoch, state, cause, ranks, keeper.warmed, *had))

    # ------------------------------------------------------------ the end

    def _on_signal(self) -> None:
        if self.life.state == "closing":  # whoever asks again does not want to wait
            self._forced = True
            self._killing = asyncio.get_running_loop().create_task(self.keeper.kill())
        elif self._draining is not None or not self._announced:
            # the second one, or there is nothing to finish yet
            self._forced = self._draining is not None
            self._end(1 if self._forced else 0, "it was stopped")
        else:
            self._begin_drain("it was asked to stop")

    def _begin_drain(self, reason: str) -> None:
        if self._draining is None:
            self._reason = reason
            self._draining = asyncio.get_running_loop().create_task(self._drain(reason))

    async def _drain(self, reason: str) -> None:
        """Finishes everything, for as long as it takes."""
        self._change("draining", reason)
        self.engine.move_out()
        if self.control.registered.is_set():
            # work that was sent before the orchestrator heard of this is still on its way
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nothing_comes.wait(), LAST_WORK_S)
        await self.engine.idle.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._media_read(), LAST_MEDIA_S)
        self._end(0, reason)

    async def _media_read(self) -> None:
        while self._media.held:
            await asyncio.sleep(POLL_S)

    def _end(self, code: int, reason: str) -> None:
        if not self._exit.done():
            self._reason = reason
            self._exit.set_result(code)

    async def _close(self, broken: bool = False) -> PoolEnd:
        """Always comes to its end."""
        self._deadline.start()
        if self._draining is not None:
            self._draining.cancel()
        self._change("closing", self._reason)
        closing = Closing(self.life, self.asked, self.engine, self.control, self.keeper)
        if self._forced:
            return await closing.kill()
        return await closing.close(self._reason, broken)


@contextlib.asynccontextmanager
async def _tasks(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Runs these beside the block, and ends them with it."""
    tasks = [asyncio.get_running_loop().create_task(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
