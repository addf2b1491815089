"""The leader's line to the orchestrator: register, beat, listen, and register again by itself."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from typing import Protocol

from roles.backoff import Backoff
from roles.leader.dealer import Dealer
from transfer.codec import Message, ProtocolError, encode
from transfer.keys import KeyPair, cluster_keys
from transfer.messages import (
    Abort,
    Ask,
    Close,
    Drain,
    Heartbeat,
    Left,
    Progressed,
    Push,
    Refused,
    Register,
    RegisterAgain,
    Release,
    Reload,
    Welcome,
    Work,
    from_orchestrator,
)

log = logging.getLogger(__name__)

MISSED_BEATS = 4  # so many heartbeats without any word: the orchestrator is gone
WELCOME_S = 10.0  # for an answer to Register, before another connection is made
REPEAT_S = 1.0  # before Register is said again on the same one; then twice as long, and so on
COMPLAIN_S = 5.0
OF_AN_EPOCH = (Work, Push, Release, Abort, Ask, Reload)
LOOK_S = 0.25  # how often it is looked why nobody answers
SHORTEST_HEARTBEAT_S = 0.02
MAX_QUEUED = 10_000  # messages that the orchestrator does not take
LINGER_MS = 1000  # for the goodbye


class RegistrationRefused(Exception):
    """The orchestrator will never take this instance; the message is its reason."""


class LinkLost(Exception):
    """This connection is over; the message says why. The client makes another one."""


class TurnedAway(LinkLost):
    """The orchestrator ended this connection in its handshake; the message says the remedy."""


class Orders(Protocol):
    """What the orchestrator can tell an instance. All but `forget` return at once."""

    def register(self, last_epoch: int) -> Register:
        """How the instance introduces itself now."""

    async def forget(self) -> None:
        """Ends all work; returns when none of it is being written any more."""

    def heartbeat(self, epoch: int) -> Heartbeat:
        """That it lives, and what it tells of itself with each beat."""

    def welcomed(self, welcome: Welcome) -> None: ...

    def work(self, work: Work) -> None: ...

    def push(self, push: Push) -> None: ...

    def release(self, release: Release) -> None: ...

    def abort(self, abort: Abort) -> None: ...

    def ask(self, ask: Ask) -> None: ...

    def reload(self, cause: str) -> None: ...

    def drain(self, more: bool) -> None: ...

    def close(self, reason: str) -> None: ...


class ControlClient:
    """A DEALER that keeps the instance registered, from `run` to `leave` and `close`.

    It says Register until it is welcomed, for a reply may be lost with a connection that ZeroMQ
    has replaced by itself; then it sends what `send` is given, beats, and passes
    orders on. When the orchestrator stays silent for `MISSED_BEATS` heartbeats, or says that it
    does not know this connection, everything of the old epoch is dropped (`Orders.forget`) and it
    registers again, so it survives any number of restarts of the orchestrator, and may be started
    before it. (ZeroMQ guide, "Paranoid Pirate".)

    It shows the cluster's `keys` (None: see `cluster_keys`), and talks to nobody who has others. An
    instance that was never welcomed, and for `welcome_s` nothing but turned away, gives up; one
    that was keeps on trying, because then the orchestrator is the one that has changed.

    `epoch` is that of the last Welcome. Counters: `garbage` (frames that are no message of ours),
    `stale` (what was meant for another epoch), `dropped` (progress that a stuck connection did not
    take).
    """

    def __init__(
        self,
        endpoint: str,
        orders: Orders,
        keys: KeyPair | None = None,
        *,
        welcome_s: float = WELCOME_S,
    ) -> None:
        self.epoch = 0
        self.registered = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._endpoint = endpoint
        self._orders = orders
        self._welcome_s = welcome_s
        self._dealer = Dealer(endpoint, keys or cluster_keys())
        self._queue: deque[bytes] = deque()
        self._queued = asyncio.Event()
        self._heard = 0.0
        self._turned_away_since: float | None = None

    async def run(self) -> None:
        """Never returns. Raises `RegistrationRefused`."""
        backoff = Backoff(0.1, 2.0)
        while True:
            self.registered.clear()
            await self._orders.forget()
            self._queue.clear()
            try:
                self._dealer.connect()
                await self._talk(backoff)
            except TurnedAway as reason:
                self._stand_outside(reason)
            except LinkLost as reason:
                self._turned_away_since = None
                log.warning("%s; registering again", reason)
            await asyncio.sleep(backoff.next())

    def send(self, message: Message) -> None:
        """Queues a message of this epoch; while nobody is registered, it is dropped."""
        if not self.registered.is_set():
            return
        if len(self._queue) >= MAX_QUEUED and isinstance(message, Progressed):
            self.counters["dropped"] += 1
            return
        try:
            self._queue.append(encode(message))
        except ProtocolError as error:
            log.error("a message to the orchestrator is lost: %s", error)
        self._queued.set()

    async def leave(self, reason: str) -> None:
        """Says goodbye, after all that was to be said. `run` must have been cancelled."""
        self.send(Left(self.epoch, reason))
        await self._finish()

    async def close(self, last: Message | None = None) -> None:
        """Says the last word, and closes the connection."""
        if last is not None:
            self.send(last)
        await self._finish()
        self.registered.clear()
        await self._dealer.close(LINGER_MS)

    async def _finish(self) -> None:
        """Sends what is queued, unless the connection does not take it."""
        if self._dealer.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flush(), LINGER_MS / 1000)

    async def _flush(self) -> None:
        while self._queue:
            await self._dealer.send(self._queue.popleft())

    # ------------------------------------------------------------ one connection

    async def _talk(self, backoff: Backoff) -> None:
        """One registration, from Register to the end of the connection."""
        welcome = await self._welcome()
        self.epoch = welcome.epoch
        self._turned_away_since = None
        self._heard = asyncio.get_running_loop().time()
        self.registered.set()
        backoff.reset()
        self._orders.welcomed(welcome)
        duties = [self._listen(), self._speak(), self._keep_alive(welcome.heartbeat_s)]
        tasks = [asyncio.ensure_future(duty) for duty in duties]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _welcome(self) -> Welcome:
        """Raises `RegistrationRefused`, `TurnedAway`, or `LinkLost` if nobody answers."""
        await self._introduce()
        hearing = asyncio.ensure_future(self._first_word())
        try:
            return await self._wait_for(hearing)
        finally:
            self._dealer.welcomed()
            hearing.cancel()
            await asyncio.wait({hearing})

    async def _introduce(self) -> None:
        await self._dealer.send(encode(self._orders.register(self.epoch)))

    async def _wait_for(self, hearing: "asyncio.Future[Welcome]") -> Welcome:
        """What it hears; while it hears nothing, it is looked why."""
        loop = asyncio.get_running_loop()
        began = complained = loop.time()
        repeats = Backoff(REPEAT_S, self._welcome_s)
        repeat_at = began + repeats.next()
        while loop.time() - began < self._welcome_s:
            await asyncio.wait({hearing}, timeout=min(LOOK_S, self._welcome_s))
            if hearing.done():
                return hearing.result()
            if refusal := self._dealer.refusal():
                raise TurnedAway(refusal)
            if loop.time() >= repeat_at:
                repeat_at = loop.time() + repeats.next()
                await self._introduce()
            if loop.time() - complained >= COMPLAIN_S:
                complained = loop.time()
                log.warning("the orchestrator at %s does not answer yet", self._endpoint)
        raise LinkLost(f"no answer from {self._endpoint}")

    async def _first_word(self) -> Welcome:
        """Whatever comes before the orchestrator's answer is for an older registration."""
        while True:
            message = await self._hear()
            if isinstance(message, Welcome):
                return message
            if isinstance(message, Refused):
                raise RegistrationRefused(message.reason)

    def _stand_outside(self, reason: TurnedAway) -> None:
        """Tries again, unless it has long been clear that it will never help."""
        now = asyncio.get_running_loop().time()
        if self._turned_away_since is None:
            self._turned_away_since = now
        if self.epoch == 0 and now - self._turned_away_since >= self._welcome_s:
            raise RegistrationRefused(str(reason)) from reason
        log.warning("%s", reason)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await self._hear()
            self._heard = loop.time()
            if isinstance(message, RegisterAgain):
                raise LinkLost("the orchestrator has ended, or does not know this connection")
            if isinstance(message, Welcome) and message.epoch != self.epoch:
                raise LinkLost("what was repeated of the registration has begun another epoch")
            try:
                self._obey(message)
            except Exception:
                self.counters["failed"] += 1
                log.exception("an order could not be carried out: %s", type(message).__name__)

    def _obey(self, message: Message | None) -> None:
        orders = self._orders
        if isinstance(message, OF_AN_EPOCH) and message.epoch != self.epoch:
            self.counters["stale"] += 1
            return
        match message:
            case Work():
                orders.work(message)
            case Push():
                orders.push(message)
            case Release():
                orders.release(message)
            case Abort():
                orders.abort(message)
            case Ask():
                orders.ask(message)
            case Reload():
                orders.reload(message.cause)
            case Drain(more):
                orders.drain(more)
            case Close(reason):
                orders.close(reason)

    async def _speak(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                await self._dealer.send(self._queue.popleft())

    async def _keep_alive(self, heartbeat_s: float) -> None:
        loop = asyncio.get_running_loop()
        heartbeat_s = max(heartbeat_s, SHORTEST_HEARTBEAT_S)
        while True:
            await asyncio.sleep(heartbeat_s)
            silent = loop.time() - self._heard
            if silent > MISSED_BEATS * heartbeat_s:
                raise LinkLost(f"the orchestrator has been silent for {silent:.1f} s")
            if len(self._queue) >= MAX_QUEUED:
                raise LinkLost("the orchestrator takes no messages")
            self.send(self._orders.heartbeat(self.epoch))

    async def _hear(self) -> Message | None:
        """The next message; None for what is none. Raises `RegistrationRefused` if the orchestrator
        says that it does not understand us."""
        frames = await self._dealer.receive()
        try:
            if len(frames) != 1:
                raise ProtocolError("message", f"{len(frames)} frames")
            return from_orchestrator.decode(frames[0])
        except ProtocolError as error:
            if error.reason == "parting":
                raise RegistrationRefused(self._parted(str(error))) from error
            self.counters["garbage"] += 1
            if _is_power_of_two(self.counters["garbage"]):  # so that a flood fills no disk
                log.warning("garbage (%d so far): %s", self.counters["garbage"], error)
            return None

    def _parted(self, why: str) -> str:
        return (
            f"the orchestrator at {self._endpoint} is of another version of Triptych: {why}; "
            "install the same version on both sides"
        )


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
