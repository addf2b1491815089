"""The leader's side of the rendezvous: nodes join it, ranks of theirs are started through it."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio

from roles.leader.process import RankProcess
from roles.nodes.book import Book
from roles.nodes.crew import BEAT_S, Crew, Member
from roles.nodes.facts import Facts
from roles.nodes.messages import (
    BookAsk,
    End,
    FromRank,
    InstanceReady,
    Join,
    JoinAgain,
    Joined,
    LeaderBeat,
    NodeWord,
    NotJoined,
    RankGone,
    RankStarted,
    StartRank,
    Stopping,
    to_hub,
)
from roles.nodes.network import resolved
from roles.nodes.remote import RemoteRank
from roles.options import RoleOptions, split_address
from transfer.codec import MAX_FRAME_BYTES, Message, ProtocolError, encode
from transfer.contexts import end
from transfer.guard import SEAL_BYTES, Guard
from transfer.keys import KeyPair
from transfer.refusals import Reason

log = logging.getLogger(__name__)

MOST_QUEUED = 10_000  # messages that a node does not take; then it counts as lost
LINGER_MS = 1000
TELL_S = 30.0  # between two words about who is missing
LOOKS_S = (0.0, 0.05, 0.25, 1.0)  # after a connection ended: whose it was, ZeroMQ does not say


class NodesMissing(Exception):
    """Not all nodes have joined in time; the message names them."""


class Hub:
    """Where the nodes of an instance meet their leader: a socket behind the cluster's key.

    `bind`, then `run` in a task until `close`. `gathered` waits until all nodes are there; `rank`
    makes the pool's ranks, here or there; `begin_life` before each pool, whose ranks then find
    each other in a book of their own. `run` calls `on_stopping` when a node was asked to stop.

    A node is lost when its connection ends or it is silent for `LOST_S`: its ranks then count as
    dead, at once. It ends them before it joins again, and so does a node that has lost its leader.
    """

    def __init__(self, options: RoleOptions, keys: KeyPair) -> None:
        self._options = options
        self._on_stopping: Callable[[str], None] = log.info
        self._context = zmq.asyncio.Context()  # of its own: one guard for each
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, MOST_QUEUED)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES + SEAL_BYTES)
        self._guard = Guard(self._socket, keys, self._refused, self._parted)
        self._crew: Crew | None = None
        self._ranks: dict[int, RemoteRank] = {}
        self._complete = asyncio.Event()
        self._book = Book(secrets.randbits(48))
        self._ready: str | None = None

    def bind(self) -> None:
        """Raises OSError."""
        host, port = split_address(self._options.rendezvous or "")
        try:
            family, address = resolved(host)
            if family == socket.AF_INET6:
                self._socket.setsockopt(zmq.IPV6, 1)
                address = f"[{address}]"
            self._socket.bind(f"tcp://{address}:{port}")
        except (zmq.ZMQError, OSError) as error:
            raise OSError(
                f"cannot listen at --rendezvous {host}:{port}, which is an address of node 0's "
                f"own: {error.strerror}"
            ) from error

    async def run(self, on_stopping: Callable[[str], None]) -> None:
        """Never returns."""
        self._on_stopping = on_stopping
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._guard.run(), name="guard of the rendezvous")
            facts = await asyncio.to_thread(Facts.of, self._options)
            self._crew = Crew(facts, secrets.randbits(48))
            parts.create_task(self._listen(), name="rendezvous")
            parts.create_task(self._beat(), name="beats of the rendezvous")

    async def close(self, code: int, reason: str) -> None:
        """Tells the nodes that the instance has ended. `run` must have been cancelled."""
        for member in self._members:
            self.send(member, End(member.epoch, code, reason))
        self._guard.close()
        self._socket.close(linger=LINGER_MS)
        await asyncio.to_thread(end, self._context)

    # ------------------------------------------------------------ for the leader and its pool

    async def gathered(self, seconds: float) -> None:
        """Returns when all nodes are there. Raises `NodesMissing`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._complete.is_set():
            left = until - loop.time()
            try:
                await asyncio.wait_for(self._complete.wait(), min(TELL_S, max(left, 0.0)))
            except TimeoutError:
                where = f"at {self._options.rendezvous}"
                if left <= TELL_S:
                    words = f"within {seconds:g} s"
                    raise NodesMissing(f"{self._missing} did not join {where} {words}") from None
                log.warning("%s did not join %s yet", self._missing, where)

    @property
    def complete(self) -> bool:
        """Whether all nodes are there."""
        return self._complete.is_set()

    def begin_life(self) -> int:
        """Of the ranks that are made from now on."""
        self._book.begin(self._book.life + 1)
        self._ranks.clear()
        self._ready = None
        return self._book.life

    def rank(
        self, rank: int, on_frame: Callable[[int, bytes], None], on_death: Callable[[int], None]
    ) -> RankProcess | RemoteRank:
        if self._options.node_of(rank) == 0:
            return RankProcess(rank, on_frame, on_death)
        remote = self._ranks[rank] = RemoteRank(rank, self, on_frame, on_death)
        return remote

    def device(self, rank: int) -> str:
        """Where it computes; empty while its node is not there."""
        node = self._options.node_of(rank)
        if node == 0:
            return self._options.rank_device(rank)
        member = self._crew and self._crew.of(node)
        place = self._options.place_of(rank)
        devices = member.join.devices if member else []
        return devices[place] if place < len(devices) else ""

    def ready(self, name: str) -> None:
        """The instance can be given work."""
        self._ready = name
        for member in self._members:
            self.send(member, InstanceReady(member.epoch, name))

    # ------------------------------------------------------------ for remote ranks

    def member_of(self, rank: int) -> Member:
        node = self._options.node_of(rank)
        member = self._crew and self._crew.of(node)
        if not member:
            raise OSError(f"node {node} is not there")
        return member

    def order(self, member: Member, rank: int) -> StartRank:
        options = self._options
        return StartRank(
            member.epoch,
            self._book.life,
            rank,
            options.ranks,
            str(options.division()),
            options.thread_count(),
            options.slice_s,
            options.rank_timeout_s,
            options.encoder_cache,
        )

    def send(self, member: Member, message: Message, data: bytes | None = None) -> None:
        """Who does not take it is lost."""
        frames = [encode(message)] if data is None else [encode(message), data]
        if (error := self._give(member.identity, frames)) is not None:
            why = "hung up" if error.errno == zmq.EHOSTUNREACH else "takes no messages"
            asyncio.get_running_loop().call_soon(self._lose, member, why)

    # ------------------------------------------------------------ what comes

    async def _listen(self) -> None:
        while True:
            identity, *frames = await self._socket.recv_multipart()
            try:
                self._hear(identity, frames)
            except ProtocolError as error:
                log.warning("what cannot be understood came to the rendezvous: %s", error)

    def _hear(self, identity: bytes, frames: list[bytes]) -> None:
        if not frames:
            raise ProtocolError("message", "0 frames")
        message = to_hub.decode(frames[0])
        if isinstance(message, Join):
            self._admit(identity, message)
        elif isinstance(message, BookAsk):
            self._give(identity, [encode(self._book.answer(message))])
        elif isinstance(message, NodeWord):
            self._hear_node(identity, message, frames[1:])

    def _hear_node(self, identity: bytes, word: NodeWord, data: list[bytes]) -> None:
        assert self._crew is not None
        member = self._crew.known(identity, word.epoch)
        if member is None:
            self._give(identity, [encode(JoinAgain())])
            return
        member.heard = asyncio.get_running_loop().time()
        if isinstance(word, Stopping):
            self._on_stopping(f"{member} was asked to stop")
        elif isinstance(word, RankStarted | FromRank | RankGone):
            self._hear_rank(member, word, data)

    def _hear_rank(
        self, member: Member, word: RankStarted | FromRank | RankGone, data: list[bytes]
    ) -> None:
        rank = self._ranks.get(word.rank)
        if rank is None or rank.member is not member or word.life != self._book.life:
            return
        match word:
            case RankStarted():
                rank.started(word)
            case RankGone():
                rank.end(word.how)
            case FromRank():
                if len(data) != 1:
                    raise ProtocolError("message", f"{len(data)} frames of a rank")
                rank.hear(data[0])

    def _admit(self, identity: bytes, join: Join) -> None:
        assert self._crew is not None
        if (before := self._crew.before(join)) is not None:
            if before.identity == identity:
                return  # it said it twice
            self._lose(before, "joined again")
        answer = self._crew.admit(identity, join, asyncio.get_running_loop().time())
        if isinstance(answer, NotJoined):
            log.warning("node %d on %s may not join: %s", join.node, join.host, answer.reason)
            self._give(identity, [encode(answer)])
            return
        log.info("%s has joined", answer)
        self.send(answer, Joined(answer.epoch, BEAT_S))
        if not self._crew.missing:
            self._complete.set()

    # ------------------------------------------------------------ who is lost

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            await asyncio.sleep(BEAT_S)
            assert self._crew is not None
            for member in self._members:
                self.send(member, LeaderBeat(member.epoch))
            if loop.time() - since > 2 * BEAT_S:
                continue  # it was we who slept: what they said meanwhile is still to be read
            for member in self._crew.silent(loop.time()):
                self._lose(member, "does not answer")

    def _parted(self) -> None:
        """A connection has ended; those of nodes are tried."""
        for seconds in LOOKS_S:
            asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        for member in self._members:
            self.send(member, LeaderBeat(member.epoch))

    def _lose(self, member: Member, why: str) -> None:
        if self._crew is None or not self._crew.remove(member):
            return
        log.error("%s is lost: it %s", member, why)
        self._complete.clear()
        for rank in list(self._ranks.values()):
            if rank.member is member:
                rank.end(f"is lost, because {member} {why}")

    # ------------------------------------------------------------ the socket

    @property
    def _members(self) -> list[Member]:
        return self._crew.members if self._crew is not None else []

    @property
    def _missing(self) -> str:
        missing = self._crew.missing if self._crew is not None else []
        return f"node{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"

    def _give(self, identity: bytes, frames: list[bytes]) -> zmq.ZMQError | None:
        """At once; what is wrong if it cannot be."""
        if self._socket.closed:
            return None
        sent: Any = self._socket.send_multipart([identity, *frames], flags=zmq.NOBLOCK)
        error = sent.exception() if sent.done() else None
        return error if isinstance(error, zmq.ZMQError) else None

    def _refused(self, reason: Reason, text: str) -> None:
        log.warning("somebody was turned away from the rendezvous: %s", text)
