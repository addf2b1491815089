"""Writing into the slots of a process on another host, through Mooncake's transfer engine.

What the engine does not do is done here: a bound on first contact and on every write. For that one
has to know how it behaves:
- the first contact with a peer that accepts and never answers holds the engine for a minute, so a
  peer is probed first, in a thread that is given up after a few seconds;
- a submitted write has no deadline, and asking for its state after the answer was final is a use
  after free;
- a write that failed may still land;
- a fork breaks it, so leaders start their ranks by exec.
"""

import asyncio
import contextlib
import importlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

from transfer.backends import Stop, Unreachable
from transfer.errors import BackendMissing, TransferFailed
from transfer.messages import MooncakeAddress, PoolAddress
from transfer.pool import SlotPool
from transfer.slots import Copy
from transfer.threads import in_thread

# only where the user has set none
DEFAULTS = {
    "MC_LOG_LEVEL": "ERROR",
    "MC_TRANSFER_TIMEOUT": "15",
    "MC_TCP_PROGRESS_TIMEOUT_SEC": "5",
    "MC_HANDSHAKE_CONNECT_TIMEOUT": "3",
    "MC_TCP_LANES_PER_PEER": "16",
    "MC_TCP_SLICE_SIZE": "262144",
    "MC_TE_METADATA_REFRESH_INTERVAL_SECONDS": "5",
}

LIBRARIES = "apt-get install libibverbs1 ibverbs-providers libnuma1 libcurl4"
PACKAGE = "pip install mooncake-transfer-engine-non-cuda"

INLINE_BYTES = 4 << 20  # submitting more would itself hold up the event loop
INLINE_S = 0.001  # for which a small write is waited for in the event loop
SPIN_S = 0.003  # a write of a few MiB is over by then
LONGEST_PAUSE_S = 0.001
SETTLE_S = 1.0  # given to writes under way when the engine ends
MAX_PROBES = 16  # peers that are being waited for at one time

_SESSION = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[\w.-]+):([0-9]{1,5})")
_NO_ID = (0, -1, (1 << 64) - 1)
_LAST_ADDRESS = (1 << 63) - 1
_DONE, _FAILED = 1, -1  # 0 is pending; -2, timed out, is not final either

# segments that the engine may still read from: never unmapped (see `MooncakeBackend.close`)
_kept: list[memoryview] = []


class Engine(Protocol):
    """What is used of `mooncake.engine.TransferEngine`."""

    def initialize(self, host: str, metadata: str, protocol: str, device: str, /) -> int: ...
    def get_rpc_port(self) -> int: ...
    def register_memory(self, address: int, nbytes: int, /) -> int: ...
    def unregister_memory(self, address: int, /) -> int: ...
    def send_probe(self, session: str, /) -> int: ...
    def transfer_submit_write(
        self, session: str, source: int, target: int, nbytes: int, /
    ) -> int: ...
    def transfer_check_status(self, write: int, /) -> int: ...


def load() -> Any:
    """The class `TransferEngine`. Raises `BackendMissing` with the command that mends it."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)  # the engine reads them when it is imported
    try:
        return importlib.import_module("mooncake.engine").TransferEngine
    except ModuleNotFoundError as error:
        raise BackendMissing(f"Mooncake is not installed; mend it with: {PACKAGE}") from error
    except ImportError as error:
        message = f"Mooncake cannot be imported ({error}); mend it with: {LIBRARIES}"
        raise BackendMissing(message) from error


@contextlib.contextmanager
def _muffled() -> Iterator[None]:
    """Shows what the engine writes to standard error only if the block raises: it complains, at
    every level, of what is normal on a host without a card."""
    with tempfile.TemporaryFile() as said:
        shown = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(shown, said.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


class MooncakeBackend:
    """One engine with the pool's slots registered, once.

    `host`: the address under which other hosts reach this one. Anyone who can connect to the
    engine's ports can read and write the slots: they belong in a trusted network.
    """

    name = "mooncake"

    def __init__(self, pool: SlotPool, host: str) -> None:
        engine = load()
        self._base = pool.base
        self._view = pool.view
        # the page in front of the slots, with the nonce, is not for others to write
        self._registered = self._base + pool.offset
        with _muffled():
            self._engine: Engine = engine()
            code = self._engine.initialize(host, "P2PHANDSHAKE", "tcp", "")
            if code != 0:
                raise BackendMissing(f"Mooncake does not start on {host!r} (code {code})")
            code = self._engine.register_memory(self._registered, pool.nbytes - pool.offset)
            if code != 0:
                raise BackendMissing(f"Mooncake refuses the slots (code {code})")
        session = f"{host}:{self._engine.get_rpc_port()}"
        self.mooncake = MooncakeAddress(session=session, base=self._base)
        self._unsettled: list[Writes] = []
        self.opening = 0  # writes that may be a first contact, and hold the engine meanwhile
        self._probed: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def key(self, address: PoolAddress) -> Hashable | None:
        # host:port does not identify a process for ever; with the base address it nearly does,
        # and a receiver checks what arrives anyway
        there = address.mooncake
        return None if there is None else (there.session, there.base)

    def reach(self, address: PoolAddress, seconds: float) -> "MooncakePeer":
        if address.mooncake is None:
            raise Unreachable("it offers no Mooncake session")
        session = address.mooncake.session
        found = _SESSION.fullmatch(session)
        if not found or not 0 < int(found[2]) < 1 << 16:
            raise Unreachable(f"{session!r} is not host:port")
        self._probe(session, seconds)
        return MooncakePeer(self, session, address.mooncake.base)

    def submit(self, session: str, base: int, copies: Sequence[Copy]) -> "Writes":
        """Begins all copies. Blocks only while the engine is busy with a first contact."""
        if any(not 0 < base + copy.target <= _LAST_ADDRESS - copy.nbytes for copy in copies):
            raise TransferFailed("the slots do not lie in any memory", may_land=False)
        self._settle()
        ids = [self._submit(session, base, copy) for copy in copies]
        return Writes(self._engine, session, ids)

    @contextlib.contextmanager
    def first_contact(self) -> Iterator[None]:
        """Around a submission that may hold the engine until the peer answers."""
        with self._lock:
            self.opening += 1
        try:
            yield
        finally:
            with self._lock:
                self.opening -= 1

    def give_up(self, writes: "Writes") -> NoReturn:
        """Their ids stay in use until the engine has a final answer, which is asked for later."""
        with self._lock:
            self._unsettled.append(writes)
        raise TransferFailed("the receiver does not take the bytes", may_land=True)

    def close(self) -> None:
        """Ends the engine; gives writes that are still under way a moment to settle."""
        until = time.monotonic() + SETTLE_S
        while self._settle() and time.monotonic() < until:
            time.sleep(LONGEST_PAUSE_S)
        self._engine.unregister_memory(self._registered)
        if self._unsettled or self._probed or self.opening:
            _kept.append(self._view[:])
        del self._engine, self._view

    def _submit(self, session: str, base: int, copy: Copy) -> int:
        source, target = self._base + copy.source, base + copy.target
        return self._engine.transfer_submit_write(session, source, target, copy.nbytes)

    def _settle(self) -> int:
        """Looks after the writes that had been given up. Returns how many are still under way."""
        with self._lock:
            self._unsettled = [writes for writes in self._unsettled if not writes.done()]
            return len(self._unsettled)

    def _probe(self, session: str, seconds: float) -> None:
        """Raises `Unreachable` unless the peer's engine answers in time."""
        with self._lock:
            if session in self._probed or len(self._probed) >= MAX_PROBES:
                raise Unreachable(f"{session} has not answered an earlier probe yet")
            answered = self._probed[session] = threading.Event()
        answers: list[int] = []
        probe = (session, answered, answers)
        threading.Thread(target=self._ask, args=probe, name="probe", daemon=True).start()
        if not answered.wait(seconds):
            raise Unreachable(f"{session} accepts connections but does not answer")
        if answers != [0]:
            raise Unreachable(f"nothing answers at {session}")

    def _ask(self, session: str, answered: threading.Event, answers: list[int]) -> None:
        # held, so that the engine outlives a probe that is stuck in it
        engine = self._engine
        try:
            answers.append(engine.send_probe(session))
        finally:
            with self._lock:
                del self._probed[session]
            answered.set()


class Writes:
    """Submitted writes of one payload."""

    def __init__(self, engine: Engine, session: str, ids: list[int]) -> None:
        self._engine = engine
        self._session = session
        self._count = len(ids)
        self._pending = [id for id in ids if id not in _NO_ID]
        self._failed = len(ids) - len(self._pending)

    def done(self) -> bool:
        """Looks at each write once. A final answer ends its id, so it is never asked again."""
        answers = [(id, self._engine.transfer_check_status(id)) for id in self._pending]
        self._failed += sum(state == _FAILED for _, state in answers)
        self._pending = [id for id, state in answers if state not in (_DONE, _FAILED)]
        return not self._pending

    def result(self) -> None:
        """Of writes that are done: raises `TransferFailed` if one of them failed."""
        if self._failed:
            message = f"Mooncake failed {self._failed} of {self._count} writes to {self._session}"
            raise TransferFailed(message, may_land=True)


class MooncakePeer:
    """A session of another engine and the address at which that process maps its segment.

    The engine keeps connections by itself, and a session that is dead costs it nothing.
    """

    def __init__(self, backend: MooncakeBackend, session: str, base: int) -> None:
        self._backend = backend
        self._session = session
        self._base = base
        self._opened = False

    def alive(self) -> bool:
        return True  # for all that is known here

    def start(
        self, copies: Sequence[Copy], until: float, stop: Stop
    ) -> "asyncio.Future[None] | None":
        # a small write is over sooner than a thread has woken up; but it must not happen that its
        # submission waits, here in the event loop, for another peer's first contact
        small = sum(copy.nbytes for copy in copies) <= INLINE_BYTES
        if not small or not self._opened or self._backend.opening:
            return in_thread(self._write, copies, until, stop)
        writes = self._submit(copies)
        soon = time.monotonic() + INLINE_S
        while not writes.done():
            if time.monotonic() > soon:
                return asyncio.ensure_future(self._end_of(writes, until))
            time.sleep(0)
        writes.result()
        return None

    def _write(self, copies: Sequence[Copy], until: float, stop: Stop) -> None:
        if stop.asked:  # once submitted, a write cannot be called off
            raise TransferFailed("the write was called off", may_land=False)
        writes = self._submit(copies)
        for pause in pauses():
            if writes.done():
                break
            if time.monotonic() > until:
                self._backend.give_up(writes)
            time.sleep(pause)
        writes.result()

    async def _end_of(self, writes: Writes, until: float) -> None:
        for pause in pauses():
            if writes.done():
                break
            if time.monotonic() > until:
                self._backend.give_up(writes)
            await asyncio.sleep(pause)
        writes.result()

    def _submit(self, copies: Sequence[Copy]) -> Writes:
        if self._opened:
            return self._backend.submit(self._session, self._base, copies)
        with self._backend.first_contact():
            writes = self._backend.submit(self._session, self._base, copies)
        self._opened = True
        return writes


def pauses() -> Iterator[float]:
    """Seconds between looks at a write: none while a small one would end, then a small part of the
    time that it has taken so far."""
    start = time.monotonic()
    while True:
        taken = time.monotonic() - start
        yield 0 if taken < SPIN_S else min(taken / 64, LONGEST_PAUSE_S)
