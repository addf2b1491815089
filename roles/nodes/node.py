"""The process of an instance on each host but its leader's: ranks are its children.

`serve(options)` is `triptych serve --disagg-role ROLE --nnodes N --node-rank K`, K > 0. It decides
nothing: it starts, feeds, signals and reaps ranks as the leader says, and ends all of them when it
has lost its leader. Imports no torch.
"""

import asyncio
import contextlib
import json
import logging
import os
import platform
import secrets
import signal
import sys
from typing import cast

from msgspec.structs import replace

from roles.backoff import Backoff
from roles.calls import framed
from roles.leader.keeper import rank_command
from roles.leader.process import RankProcess
from roles.logs import configure
from roles.nodes.crew import LOST_S
from roles.nodes.facts import Facts
from roles.nodes.line import Line
from roles.nodes.messages import (
    End,
    FromRank,
    InstanceReady,
    Join,
    JoinAgain,
    Joined,
    LeaderBeat,
    LeaderWord,
    NodeBeat,
    NotJoined,
    RankGone,
    RankStarted,
    SignalRank,
    StartRank,
    Stopping,
    ToRank,
    to_node,
)
from roles.options import RoleOptions
from roles.rank.arguments import PROGRAM
from transfer.codec import Message, ProtocolError
from transfer.errors import TransferError
from transfer.keys import KeyPair, cluster_keys

log = logging.getLogger(__name__)

REPEAT_S = 2.0  # before Join is said again
COMPLAIN_S = 10.0
REAP_S = 10.0
GIVE_UP_S = 10.0  # of nothing but being turned away, before it ever joined
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


class Refused(Exception):
    """The leader will never take this node; the message is its reason."""


class LeaderLost(Exception):
    """The membership is over; the message says why."""


def serve(options: RoleOptions, program: str = PROGRAM) -> int:
    """Runs a node until its instance has ended, and gives that one's exit code; 1 if it was refused
    or broken. `program`: as in `roles.leader.leader.serve`."""
    configure()
    try:
        return asyncio.run(_run(options, program))
    except (Refused, TransferError, OSError) as error:
        print(f"triptych: {options.role_names}: node {options.node_rank}: {error}", file=sys.stderr)
        return 1


async def _run(options: RoleOptions, program: str) -> int:
    return await Node(options, program, cluster_keys(options.keys)).run()


class Node:
    """One node, from its first try to join to its end. SIGTERM has the whole instance finish what
    it has and end; a second one ends this node at once, and with it the instance's ranks."""

    def __init__(self, options: RoleOptions, program: str, keys: KeyPair) -> None:
        self._options = options
        self._program = program
        self._keys = keys
        self._incarnation = secrets.token_hex(16)
        self._line = Line(options.rendezvous or "", keys)
        self._epoch = 0
        self._life = 0
        self._heard = 0.0
        self._ranks: dict[int, RankProcess] = {}
        self._facts: Facts | None = None
        self._stopping = False
        self._joined = False
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        work = loop.create_task(self._work())
        try:
            await asyncio.wait({work, self._exit}, return_when=asyncio.FIRST_COMPLETED)
            return self._exit.result() if self._exit.done() else work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._clear()
            await self._line.close()

    def _on_signal(self) -> None:
        if self._joined and not self._stopping:
            self._stopping = True
            self._line.send(Stopping(self._epoch))
        elif not self._exit.done():
            self._exit.set_result(1 if self._stopping else 0)

    async def _work(self) -> int:
        self._facts = await asyncio.to_thread(Facts.of, self._options)
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                self._line.connect()
                joined = await self._join()
                backoff.reset()
                return await self._serve(joined)
            except (LeaderLost, OSError) as reason:
                log.warning("%s", reason)
            finally:
                self._joined = False
                await self._clear()
            if self._stopping:
                return 0
            await asyncio.sleep(backoff.next())

    # ------------------------------------------------------------ joining

    async def _join(self) -> Joined:
        """Waits for a leader, for as long as it takes. Raises `Refused`, `LeaderLost`."""
        loop = asyncio.get_running_loop()
        began = complained = loop.time()
        hearing = loop.create_task(self._first_word())
        try:
            while True:
                self._line.send(self._introduction())
                await asyncio.wait({hearing}, timeout=REPEAT_S)
                if hearing.done():
                    return hearing.result()
                if self._line.parted.is_set():
                    raise LeaderLost("the leader hung up")
                now, refusal = loop.time(), self._line.refusal
                if refusal is not None and self._epoch == 0 and now - began > GIVE_UP_S:
                    raise Refused(refusal)
                if now - complained >= COMPLAIN_S:
                    complained = now
                    where = self._options.rendezvous
                    log.warning("%s", refusal or f"no leader answers at {where} yet")
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _first_word(self) -> Joined:
        while True:
            message, _ = await self._hear()
            if isinstance(message, Joined):
                return message
            if isinstance(message, NotJoined):
                if message.final:
                    raise Refused(message.reason)
                raise LeaderLost(f"the leader does not take this node yet: {message.reason}")

    def _introduction(self) -> Join:
        options, facts = self._options, self._facts
        assert facts is not None
        first = options.node_rank * options.ranks_here
        return Join(
            options.node_rank,
            options.nnodes,
            list(options.roles),
            self._incarnation,
            platform.node(),
            os.getpid(),
            [options.rank_device(first + place) for place in range(options.ranks_here)],
            facts.fingerprint,
            facts.software,
        )

    # ------------------------------------------------------------ one membership

    async def _serve(self, joined: Joined) -> int:
        """Until the end of the instance, whose exit code it gives. Raises `LeaderLost`."""
        self._epoch, self._joined = joined.epoch, True
        self._heard = asyncio.get_running_loop().time()
        log.info("joined the leader at %s", self._options.rendezvous)
        if self._stopping:
            self._line.send(Stopping(self._epoch))
        duties = (self._listen(), self._beat(joined.beat_s), self._parted())
        tasks = [asyncio.ensure_future(duty) for duty in duties]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, beat_s: float) -> int:
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            self._line.send(NodeBeat(self._epoch))
            await asyncio.sleep(beat_s)
            late = loop.time() - since > 2 * beat_s  # it was we who slept
            silent = loop.time() - self._heard
            if silent > LOST_S and not late:
                raise LeaderLost(f"the leader has been silent for {silent:.1f} s")

    async def _parted(self) -> int:
        await self._line.parted.wait()
        raise LeaderLost("the connection to the leader has ended")

    async def _listen(self) -> int:
        while True:
            message, data = await self._hear()
            if isinstance(message, JoinAgain):
                raise LeaderLost("the leader has given this node up")
            if not isinstance(message, LeaderWord) or message.epoch != self._epoch:
                continue
            self._heard = asyncio.get_running_loop().time()
            match message:
                case StartRank():
                    await self._start(message)
                case ToRank() if (rank := self._of(message)) is not None and len(data) == 1:
                    rank.send(framed(data[0]))
                case SignalRank() if (rank := self._of(message)) is not None:
                    if message.number in SIGNALS:
                        rank.signal(signal.Signals(message.number))
                case InstanceReady():
                    self._announce(message.name)
                case End():
                    log.info("the instance ends: %s", message.reason)
                    return message.code
                case LeaderBeat():
                    pass

    def _announce(self, name: str) -> None:
        facts = {
            "ready": True,
            "role": self._options.role_names,
            "name": name,
            "pid": os.getpid(),
            "node": self._options.node_rank,
            "rank_pids": [rank.pid for _, rank in sorted(self._ranks.items())],
        }
        with contextlib.suppress(OSError):
            print(json.dumps(facts), flush=True)

    async def _hear(self) -> tuple[Message | None, list[bytes]]:
        frames = await self._line.receive()
        try:
            return to_node.decode(frames[0]), frames[1:]
        except ProtocolError as error:
            if error.reason in ("parting", "version"):
                raise Refused(
                    f"the leader is of another version of Triptych: {error}; install the same "
                    "version on all hosts"
                ) from error
            log.warning("what cannot be understood came from the leader: %s", error)
            return None, []

    # ------------------------------------------------------------ ranks

    def _of(self, order: ToRank | SignalRank) -> RankProcess | None:
        return self._ranks.get(order.rank) if order.life == self._life else None

    async def _start(self, order: StartRank) -> None:
        if order.life != self._life:
            await self._clear()
            self._life = order.life
        epoch, life = self._epoch, order.life

        def on_frame(rank: int, data: bytes) -> None:
            self._line.send(FromRank(epoch, life, rank), data)

        def on_death(rank: int) -> None:
            how = process.death or "died"
            log.log(
                logging.INFO if how.endswith("code 0") else logging.ERROR, "rank %d %s", rank, how
            )
            self._line.send(RankGone(epoch, life, rank, how))

        process = RankProcess(order.rank, on_frame, on_death)
        try:
            options = self._as_told(order)
            await process.start(
                rank_command(options, order.rank, self._program, life=life, keys=self._keys)
            )
        except (OSError, ValueError) as error:
            self._line.send(RankStarted(epoch, life, order.rank, error=f"no rank: {error}"))
            return
        self._ranks[order.rank] = process
        self._line.send(RankStarted(epoch, life, order.rank, process.pid))

    def _as_told(self, order: StartRank) -> RoleOptions:
        """The leader's options for what ranks do together, and this node's own for the rest.
        Raises ValueError for a rank that is not this node's."""
        options = replace(
            self._options,
            ranks=order.ranks,
            parallel=order.parallel,
            threads=order.threads,
            slice_s=order.slice_s,
            rank_timeout_s=order.rank_timeout_s,
            encoder_cache=order.encoder_cache,
        )
        if order.rank in self._ranks or options.node_of(order.rank) != options.node_rank:
            raise ValueError(f"rank {order.rank} of {order.ranks} is not for this node to start")
        return options

    async def _clear(self) -> None:
        """Ends all ranks, and returns when they are gone."""
        ranks = cast("list[RankProcess]", list(self._ranks.values()))
        self._ranks.clear()
        for rank in ranks:
            rank.signal(signal.SIGKILL)
        for rank in ranks:
            if not await rank.gone(REAP_S):
                log.error("the kernel does not end rank %d (pid %d)", rank.rank, rank.pid)
