"""The control channel: a ROUTER socket around the machine. It moves messages, and that is all."""

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import zmq

from orchestrator.complaints import Complaints
from orchestrator.core.attempts import InvalidTransition
from orchestrator.core.commands import (
    Answers,
    Command,
    Discard,
    Log,
    Preview,
    Progress,
    Reject,
    Resolve,
    Send,
    Watch,
)
from orchestrator.core.config import Config
from orchestrator.core.events import Broken, Disconnected, Event, Received, SenderGone, Tick
from orchestrator.core.machine import Machine
from orchestrator.options import OrchestratorOptions
from orchestrator.witness import Witness
from transfer import contexts
from transfer.codec import MAX_FRAME_BYTES, ProtocolError, encode, parting
from transfer.guard import SEAL_BYTES, Guard
from transfer.keys import KeyPair, cluster_keys
from transfer.messages import RegisterAgain, Role, from_instance
from transfer.refusals import Reason

log = logging.getLogger("orchestrator")

TICK_S = 0.1
BURST = 500  # messages that are handled before others in the process have their turn
QUEUED = 10_000  # messages to one peer; one that does not read is given up
PING_MS, SILENCE_MS = 5_000, 15_000  # of TCP connections whose other end has vanished
LINGER_MS = 500
MORE = zmq.NOBLOCK | zmq.SNDMORE
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Outcome = Resolve | Reject | Progress | Preview | Discard


class Control:
    """Feeds the machine with messages, local events and time, and carries out its commands.

    `bind`, then `run` in a task: it ends only by being cancelled, or by a bug, which the process
    has to report. `post` takes an event of our own, from the same event loop, and has handled it
    when it returns. What concerns requests goes to `listener`, what instances answer to operators
    to `answered`.

    Only who has the cluster's `keys` (None: see `cluster_keys`) gets to say anything.

    Whatever bytes come in cost at most a counter and a line in the log. `counters` are those of
    the machine and these: protocol_errors_{frames,size,magic,version,parting,message},
    control_unsent, control_overlong, control_errors, handshakes_refused_{key,mechanism,bytes}.
    """

    def __init__(self, config: Config, keys: KeyPair | None = None) -> None:
        self.machine = Machine(config)
        self.listener: Callable[[Outcome], None] = lambda outcome: None
        self.answered: Callable[[Answers], None] = lambda answers: None
        self.endpoint = ""
        self._counters: Counter[str] = Counter()
        self._complaints = Complaints(log)
        self._events: deque[Event] = deque()
        self._busy = False
        self._turned = 0.0
        self._ticked = 0.0
        self._stopped: asyncio.Future[None] | None = None  # while it runs
        self._next: asyncio.Handle | None = None
        self._context = zmq.Context()
        self._socket = _router(self._context)
        self._guard = Guard(self._socket, keys or cluster_keys(), self._refused)
        self._witness = Witness(lambda name, epoch: self.post(SenderGone(name, epoch)))

    # ------------------------------------------------------------ for the rest of the process

    def bind(self, address: str) -> str:
        """Binds tcp://HOST:PORT (0: any free port); gives the endpoint that others can reach.

        Raises OSError (taken, or not ours to bind) and ValueError (not such an address).
        """
        host, port = _parse(address)
        try:
            family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            numeric = f"[{resolved[0]}]" if family == socket.AF_INET6 else resolved[0]
            self._socket.setsockopt(zmq.IPV6, int(family == socket.AF_INET6))
            self._socket.bind(f"tcp://{numeric}:{port or '*'}")
        except (zmq.ZMQError, OSError) as error:
            raise OSError(f"cannot listen at {address}: {error.strerror}") from error
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        local = bound.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:")
        self.endpoint = local.replace("tcp://[::]:", "tcp://[::1]:")
        return self.endpoint

    def post(self, event: Event) -> None:
        """Something happened in this process. Events that come of it are handled after it."""
        self._process(event)
        self._soon()  # sending may have swallowed the news that something can be received

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.machine.counters + self._counters)

    @property
    def healthy(self) -> bool:
        """The loop has turned lately."""
        return time.monotonic() - self._turned < 5.0

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._guard.run(), name="control guard")
            parts.create_task(self._loop(), name="control loop")

    async def _loop(self) -> None:
        """What comes in is handled in the socket's own callback: to wake a task for it would cost
        as much as handling it."""
        loop = asyncio.get_running_loop()
        descriptor = cast(int, self._socket.getsockopt(zmq.FD))
        self._stopped = stopped = loop.create_future()
        loop.add_reader(descriptor, self._turn)
        try:
            while not stopped.done():
                self._turn()
                await asyncio.wait({stopped}, timeout=TICK_S)
            stopped.result()
        finally:
            loop.remove_reader(descriptor)
            self._stopped = None
            if self._next is not None:
                self._next.cancel()

    def close(self) -> None:
        """Tells the instances to look for another orchestrator, rather than to wait for the word
        of this one. What was sent goes out, for a moment; nothing is received any more."""
        farewell = encode(RegisterAgain())
        for connection in self.machine.connections:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.send_multipart([connection, farewell], zmq.NOBLOCK)
        self._witness.close()
        self._guard.close()
        self._socket.close(linger=LINGER_MS)
        contexts.end(self._context)

    # ------------------------------------------------------------ the loop

    def _turn(self) -> None:
        """Everything that has come in (or a burst of it), then time. What is raised ends `run`."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._stopped is None or self._stopped.done():
            return
        self._turned = time.monotonic()
        try:
            if all(self._receive() for _ in range(BURST)):
                self._soon()
            self._tick()
        except Exception as error:
            self._stopped.set_exception(error)

    def _soon(self) -> None:
        """Another turn, after what else is ready in this process."""
        if self._next is None and self._stopped is not None:
            self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _receive(self) -> bool:
        """One message, if there is one."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        if len(frames) != 2:
            self._garbage("frames", f"{len(frames)} frames")
            return True
        try:
            message = from_instance.decode(frames[1])
        except ProtocolError as error:
            self._garbage(error.reason, str(error))
            if error.reason == "version":
                self._part(frames[0], frames[1])
            return True
        self._process(Received(frames[0], message))  # type: ignore[arg-type]
        return True

    def _tick(self) -> None:
        now, alarm = time.monotonic(), self.machine.alarm
        if now - self._ticked >= TICK_S or (alarm is not None and alarm <= now):
            self._ticked = now
            self.post(Tick())
            self._complaints.flush()

    # ------------------------------------------------------------ events and commands

    def _process(self, event: Event) -> None:
        """The event, and those that come of carrying out what the machine wants."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self._handle(self._events.popleft())
        finally:
            self._busy = False

    def _handle(self, event: Event) -> None:
        """One event through the machine. A bug of ours costs the request that it concerns."""
        try:
            commands = self.machine.handle(event, time.monotonic())
        except InvalidTransition as broken:
            self._events.append(Broken(broken.request, broken.story))
            return
        except Exception:
            self._counters["control_errors"] += 1
            log.exception("an event could not be handled: %s", type(event).__name__)
            return
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Resolve() | Reject() | Progress() | Preview() | Discard():
                self.listener(command)
            case Answers():
                self.answered(command)
            case Watch(name=name, epoch=epoch, host=host):
                self._witness.watch(name, epoch, host)
            case Log(level=level, text=text):
                log.log(LEVELS[level], "%s", text)

    def _send(self, command: Send) -> None:
        try:
            frame = encode(command.message)
        except Exception as error:
            self._unsendable(command, error)
            return
        try:
            # send_multipart takes three times as long to do the same
            self._socket.send(command.connection, MORE)
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # gone (EHOSTUNREACH), or it does not read what it is sent (EAGAIN)
            self._counters["control_unsent"] += 1
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                log.warning("a message could not be sent: %s", error)
            self._events.append(Disconnected(command.connection))

    def _unsendable(self, command: Send, error: Exception) -> None:
        self._counters["control_overlong"] += 1
        kind, request = type(command.message).__name__, getattr(command.message, "request", None)
        log.error("%s for request %s cannot be encoded: %s", kind, request, error)
        if request is not None:
            self._events.append(Broken(request, f"{kind} cannot be encoded: {error}"))

    def _garbage(self, reason: str, detail: str) -> None:
        self._counters[f"protocol_errors_{reason}"] += 1
        self._complaints.add(f"garbage on the control port ({reason})", detail)

    def _part(self, connection: bytes, frame: bytes) -> None:
        """Tells a peer of another version why nobody answers it, in words that every one knows."""
        with contextlib.suppress(zmq.ZMQError):  # it is gone, or does not read
            self._socket.send_multipart([connection, parting(frame)], zmq.NOBLOCK)

    def _refused(self, reason: Reason, why: str) -> None:
        self._counters[f"handshakes_refused_{reason}"] += 1
        self._complaints.add(f"turned away at the control port ({reason})", why)


def configure(options: OrchestratorOptions, uploads_port: int | None = None) -> Config:
    """The machine's settings. Generations begin at random: no two lives of the orchestrator share
    one, so a payload that was granted by an earlier one never matches."""
    declared: dict[Role, list[str]] = {
        "encoder": options.encoders,
        "denoiser": options.denoisers,
        "decoder": options.decoders,
    }
    return Config(
        policy=options.policy,
        schedule="sjf" if options.schedule == "sjf" else "fifo",
        declared=declared,
        max_queue=options.max_queue,
        max_attempts=options.max_attempts,
        stall_s=options.stall_timeout_s,
        uploads_port=uploads_port,
        max_models=options.max_models,
        default_model=options.default_model,
        first_generation=1 + secrets.randbits(62),
    )


def _router(context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES + SEAL_BYTES)
    router.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
    router.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
    router.setsockopt(zmq.SNDHWM, QUEUED)
    router.setsockopt(zmq.BACKLOG, 1024)
    return router


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not colon or not (port.isdecimal() or port == "*"):
        raise ValueError(f"{address} is not tcp://HOST:PORT")
    host = host.strip("[]")
    return "0.0.0.0" if host in ("", "*") else host, 0 if port == "*" else int(port)
