"""What only the Mooncake backend can meet: first, an engine that does what a test says; then the
real one with a peer that is silent, stopped, or killed in the middle."""

import asyncio
import importlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec
import pytest

from tests.support.instance import Instance
from tests.support.sending import SLOT_BYTES, Sender, grant
from transfer.backends import Stop, Unreachable, mooncake
from transfer.backends.mooncake import MooncakeBackend, MooncakePeer
from transfer.errors import BackendMissing, TransferFailed
from transfer.messages import MooncakeAddress, PoolAddress
from transfer.pool import SlotPool
from transfer.slots import Copy
from transfer.transport import Transport

SOON = 0.05


class FakeEngine:
    """An engine whose submitted writes answer as told. Asking again after a final answer fails."""

    def __init__(self) -> None:
        self.registered: list[tuple[int, int]] = []
        self.submitted: list[tuple[str, int, int, int]] = []
        self.ids: list[int] = []
        self.answers: dict[int, list[int]] = {}
        self.probe = 0
        self.probe_may_answer = threading.Event()
        self.probe_may_answer.set()

    def initialize(self, host: str, metadata: str, protocol: str, device: str) -> int:
        return 0

    def get_rpc_port(self) -> int:
        return 12345

    def register_memory(self, address: int, nbytes: int) -> int:
        self.registered.append((address, nbytes))
        return 0

    def unregister_memory(self, address: int) -> int:
        return 0

    def send_probe(self, session: str) -> int:
        self.probe_may_answer.wait(30)
        return self.probe

    def transfer_submit_write(self, session: str, source: int, target: int, nbytes: int) -> int:
        self.submitted.append((session, source, target, nbytes))
        return self.ids.pop(0)

    def transfer_check_status(self, write: int) -> int:
        answers = self.answers[write]
        assert answers, f"write {write} was asked for after its final answer"
        return answers.pop(0) if answers[0] in (1, -1) or len(answers) > 1 else answers[0]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr(mooncake, "load", lambda: lambda: made)
    return made


@pytest.fixture
def pool():
    with SlotPool.create(4, SLOT_BYTES, 2) as made:
        yield made


@pytest.fixture
def backend(engine: FakeEngine, pool: SlotPool) -> MooncakeBackend:
    return MooncakeBackend(pool, "10.1.2.3")


def write(backend: MooncakeBackend, *copies: Copy, seconds: float = 30) -> None:
    peer = MooncakePeer(backend, "there:1", 1 << 40)
    peer._write(copies, time.monotonic() + seconds, Stop())


def test_the_slots_are_registered_once_and_the_nonce_is_not(
    engine: FakeEngine, backend: MooncakeBackend, pool: SlotPool
) -> None:
    assert engine.registered == [(pool.base + pool.offset, 6 * SLOT_BYTES)]
    assert backend.mooncake == MooncakeAddress("10.1.2.3:12345", pool.base)


def test_addresses_are_bases_plus_offsets(
    engine: FakeEngine, backend: MooncakeBackend, pool: SlotPool
) -> None:
    engine.ids, engine.answers = [7], {7: [0, 0, 1]}
    write(backend, Copy(4096, 8192, 100))
    assert engine.submitted == [("there:1", pool.base + 4096, (1 << 40) + 8192, 100)]
    assert engine.answers == {7: []}


@pytest.mark.parametrize("target", [-(1 << 41), (1 << 63) - (1 << 40), 1 << 64])
def test_addresses_that_cannot_be_never_reach_the_engine(
    engine: FakeEngine, backend: MooncakeBackend, target: int
) -> None:
    with pytest.raises(TransferFailed, match="any memory") as failed:
        write(backend, Copy(0, 4096, 1), Copy(0, target, 1))
    assert not failed.value.may_land
    assert not engine.submitted


def test_all_copies_are_waited_for_even_when_one_failed(
    engine: FakeEngine, backend: MooncakeBackend
) -> None:
    engine.ids, engine.answers = [7, 8], {7: [-1], 8: [0, 0, 0, 1]}
    with pytest.raises(TransferFailed, match="1 of 2 writes") as failed:
        write(backend, Copy(0, 0, 1), Copy(1, 1, 1))
    assert failed.value.may_land
    assert engine.answers == {7: [], 8: []}


@pytest.mark.parametrize("refusal", [0, -1, (1 << 64) - 1])
def test_a_refused_submission_is_never_asked_for(
    engine: FakeEngine, backend: MooncakeBackend, refusal: int
) -> None:
    engine.ids = [refusal]
    with pytest.raises(TransferFailed) as failed:
        write(backend, Copy(0, 0, 1))
    assert failed.value.may_land


def test_a_write_that_does_not_end_is_given_up_and_settled_later(
    engine: FakeEngine, backend: MooncakeBackend
) -> None:
    engine.ids, engine.answers = [7], {7: [0]}
    with pytest.raises(TransferFailed, match="does not take") as failed:
        write(backend, Copy(0, 0, 1), seconds=SOON)
    assert failed.value.may_land
    engine.ids, engine.answers = [8, 9], {7: [-2, -1], 8: [1], 9: [1]}
    write(backend, Copy(0, 0, 1))
    write(backend, Copy(0, 0, 1))
    assert engine.answers == {7: [], 8: [], 9: []}


def test_timed_out_is_not_final(engine: FakeEngine, backend: MooncakeBackend) -> None:
    engine.ids, engine.answers = [7], {7: [-2, -2, 1]}
    write(backend, Copy(0, 0, 1))
    assert engine.answers == {7: []}


def test_memory_that_may_still_be_read_stays_mapped(
    engine: FakeEngine, backend: MooncakeBackend, pool: SlotPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[memoryview] = []
    monkeypatch.setattr(mooncake, "_kept", kept)
    engine.ids, engine.answers = [7], {7: [0]}
    with pytest.raises(TransferFailed):
        write(backend, Copy(0, 0, 1), seconds=0)
    monkeypatch.setattr(mooncake, "SETTLE_S", 0)
    backend.close()
    pool.close()
    assert kept[0][:16] == pool.nonce


@pytest.mark.parametrize(
    "session", ["", "nonsense", "host", "host:", ":1", "host:0", "host:65536", "a b:1", "h:1\n"]
)
def test_a_session_that_is_no_address_never_reaches_the_engine(
    backend: MooncakeBackend, session: str
) -> None:
    there = PoolAddress(1, SLOT_BYTES, 4096, mooncake=MooncakeAddress(session, 0))
    with pytest.raises(Unreachable, match="not host:port"):
        backend.reach(there, 1)


def test_a_silent_peer_is_given_up_and_not_asked_again_meanwhile(
    engine: FakeEngine, backend: MooncakeBackend
) -> None:
    there = PoolAddress(1, SLOT_BYTES, 4096, mooncake=MooncakeAddress("there:1", 0))
    engine.probe_may_answer.clear()
    with pytest.raises(Unreachable, match="does not answer"):
        backend.reach(there, SOON)
    with pytest.raises(Unreachable, match="earlier probe"):
        backend.reach(there, SOON)
    engine.probe_may_answer.set()
    until = time.monotonic() + 30
    while "there:1" in backend._probed and time.monotonic() < until:
        time.sleep(0.001)
    backend.reach(there, 30)


def test_a_refused_probe_is_unreachable(engine: FakeEngine, backend: MooncakeBackend) -> None:
    there = PoolAddress(1, SLOT_BYTES, 4096, mooncake=MooncakeAddress("there:1", 0))
    engine.probe = -102
    with pytest.raises(Unreachable, match="nothing answers"):
        backend.reach(there, 30)


@pytest.mark.parametrize("call", ["initialize", "register_memory"])
def test_an_engine_that_does_not_start_says_so(
    engine: FakeEngine, pool: SlotPool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(engine, call, lambda *_: -7)
    with pytest.raises(BackendMissing, match="code -7"):
        MooncakeBackend(pool, "127.0.0.1")


async def test_an_engine_that_never_returns_is_bounded(
    engine: FakeEngine, pool: SlotPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def stuck(*_: Any) -> int:
        release.wait(30)
        return 0

    monkeypatch.setattr(engine, "transfer_submit_write", stuck)
    transport = Transport(pool, "mooncake", contact_s=SOON, write_s=SOON)
    there = PoolAddress(4, SLOT_BYTES, 4096, mooncake=MooncakeAddress("there:1", 0))
    with pytest.raises(TransferFailed, match="does not return") as failed:
        await transport.send([4], 128, grant(there, [0]), time.monotonic())
    assert failed.value.may_land
    release.set()
    await transport.close()


async def test_a_cancelled_send_that_failed_says_that_bytes_may_land(
    engine: FakeEngine, pool: SlotPool
) -> None:
    engine.ids, engine.answers = [7], {7: [0]}
    transport = Transport(pool, "mooncake", write_s=SOON)
    there = PoolAddress(4, SLOT_BYTES, 4096, mooncake=MooncakeAddress("there:1", 0))
    sending = asyncio.create_task(transport.send([4], 128, grant(there, [0]), time.monotonic()))
    until = time.monotonic() + 30
    while not engine.submitted and time.monotonic() < until:
        await asyncio.sleep(0.001)
    sending.cancel()
    with pytest.raises(TransferFailed) as failed:
        await sending
    assert failed.value.may_land
    engine.answers = {7: [1]}
    await transport.close()


# ---------------------------------------------------------------- where it is missing


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    def breaks(error: ImportError) -> None:
        def import_module(name: str) -> Any:
            raise error

        monkeypatch.setattr(importlib, "import_module", import_module)

    return breaks


def test_a_missing_package_names_the_command(broken: Any) -> None:
    broken(ModuleNotFoundError("No module named 'mooncake'"))
    with pytest.raises(BackendMissing, match="pip install mooncake-transfer-engine-non-cuda"):
        mooncake.load()


def test_missing_libraries_name_the_command(broken: Any) -> None:
    broken(ImportError("libibverbs.so.1: cannot open shared object file"))
    with pytest.raises(BackendMissing, match=r"libibverbs\.so\.1.*apt-get install libibverbs1"):
        mooncake.load()


async def test_auto_goes_on_without_it_and_says_so_once(
    broken: Any, pool: SlotPool, caplog: pytest.LogCaptureFixture
) -> None:
    broken(ImportError("libnuma.so.1: cannot open shared object file"))
    with caplog.at_level(logging.WARNING):
        transport = Transport(pool, "auto", "box")
    assert transport.backends == ["shm"]
    assert transport.address().mooncake is None
    assert [record.message for record in caplog.records if "apt-get" in record.message]
    assert len(caplog.records) == 1
    await transport.close()


def test_asked_for_by_name_it_is_an_error(broken: Any, pool: SlotPool) -> None:
    broken(ModuleNotFoundError("No module named 'mooncake'"))
    with pytest.raises(BackendMissing, match="mend it"):
        Transport(pool, "mooncake")


def test_defaults_are_set_only_where_the_user_set_none(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in mooncake.DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MC_TRANSFER_TIMEOUT", "99")
    broken(ImportError("after the environment is set"))
    with pytest.raises(BackendMissing):
        mooncake.load()
    found = {name: os.environ[name] for name in mooncake.DEFAULTS}
    assert found == mooncake.DEFAULTS | {"MC_TRANSFER_TIMEOUT": "99"}
    for name in mooncake.DEFAULTS:
        monkeypatch.delenv(name)


# ---------------------------------------------------------------- the real engine

IMPATIENT = {"MC_TCP_PROGRESS_TIMEOUT_SEC": "1"}


@pytest.fixture
def silent():
    """The address of a port that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        session = f"127.0.0.1:{listening.getsockname()[1]}"
        yield PoolAddress(24, SLOT_BYTES, 4096, mooncake=MooncakeAddress(session, 1 << 40))


@pytest.mark.usefixtures("needs_mooncake")
def test_a_silent_peer_is_bounded_and_holds_up_nobody(silent: PoolAddress) -> None:
    with (
        Instance("mooncake") as healthy,
        Instance("mooncake", slots=1, outbox_slots=24, contact_s=1) as sender,
        Instance("mooncake", slots=1, outbox_slots=24, contact_s=30) as patient,
    ):
        start = time.monotonic()
        failed = sender.call("send", slots=[1], nbytes=128, grant=grant(silent))
        assert time.monotonic() - start < 10
        assert "does not answer" in failed["error"]
        assert not failed["may_land"]
        # the probe is still stuck in the engine; transfers to others go on beside it
        sent = sender.call(
            "send", slots=list(range(1, 25)), nbytes=1 << 20, grant=grant(healthy.address)
        )
        assert sent["seconds"] < 10
        assert sender.finish() == 0
        # and also while a send still waits for that probe
        both = patient.call(
            "race",
            slots=list(range(1, 25)),
            nbytes=1 << 20,
            first=grant(silent, seconds=2),
            second=grant(healthy.address),
        )
        assert both["seconds"] < 10


@pytest.mark.usefixtures("needs_mooncake")
def test_a_receiver_stopped_in_the_middle_and_woken() -> None:
    nbytes = 1024 * SLOT_BYTES
    slots = list(range(1024))
    with (
        Instance("mooncake", slots=1024) as receiver,
        Instance("mooncake", slots=1, outbox_slots=1024, env=IMPATIENT) as sender,
    ):
        outbox = [slot + 1 for slot in slots]
        assert "seconds" in sender.call(
            "send", slots=outbox, nbytes=nbytes, grant=grant(receiver.address)
        )
        receiver.stop()
        failed = sender.call("send", slots=outbox, nbytes=nbytes, grant=grant(receiver.address))
        assert failed["may_land"], failed
        receiver.wake()
        again = sender.call("send", slots=outbox, nbytes=nbytes, grant=grant(receiver.address))
        assert "seconds" in again, again
        assert receiver.call("digest", slots=slots) == sender.call("digest", slots=outbox)


@pytest.mark.usefixtures("needs_mooncake")
def test_a_receiver_killed_in_the_middle() -> None:
    nbytes = 1024 * SLOT_BYTES
    with (
        Instance("mooncake", slots=1024) as receiver,
        Instance("mooncake", slots=1, outbox_slots=1024) as sender,
    ):
        outbox = list(range(1, 1025))
        call = {"slots": outbox, "nbytes": nbytes, "grant": grant(receiver.address)}
        assert "seconds" in sender.call("send", **call)
        receiver.stop()  # so that it is the middle
        sender.start_call("send", **call)
        receiver.kill()
        failed = sender.answer()
        assert failed["may_land"], failed
        with Instance("mooncake", slots=1024) as next_one:
            sent = sender.call("send", **call | {"grant": grant(next_one.address)})
            assert "seconds" in sent, sent
            found = next_one.call("digest", slots=list(range(1024)))
            assert found == sender.call("digest", slots=outbox)


@pytest.mark.usefixtures("needs_mooncake")
async def test_an_address_outside_the_slots_is_rejected_by_the_receiver() -> None:
    async with Sender("mooncake") as sender, Sender("mooncake") as receiver:
        address = receiver.transport.address()
        for offset in (0, -(1 << 20), 1 << 40):  # the nonce, before, far behind
            wrong = msgspec.structs.replace(address, offset=offset)
            with pytest.raises(TransferFailed):
                await sender.send(128, grant(wrong, [0]))
        assert receiver.pool.view[:16] == receiver.pool.nonce
        await sender.send(128, grant(address, [0]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
async def test_auto_opens_no_port_where_no_other_host_could_come(host: str) -> None:
    async with Sender("auto", host=host) as sender, Sender("shm") as receiver:
        assert sender.transport.backends == ["shm"]
        assert sender.transport.address().mooncake is None
        elsewhere = msgspec.structs.replace(receiver.transport.address(), shm=None)
        with pytest.raises(TransferFailed, match="--advertise"):
            await sender.send(128, grant(elsewhere, [0]))


@pytest.mark.usefixtures("needs_mooncake")
async def test_auto_prefers_shared_memory_and_falls_back() -> None:
    here = "0.0.0.0"  # which is this host, but no loopback address
    async with Sender("auto", host=here) as sender, Sender("auto", host=here) as receiver:
        address = receiver.transport.address()
        assert sender.transport.backends == ["shm", "mooncake"]
        assert address.shm is not None
        assert address.mooncake is not None
        elsewhere = msgspec.structs.replace(address.shm, nonce=bytes(16))
        remote = msgspec.structs.replace(address, shm=elsewhere)
        await sender.send(SLOT_BYTES, grant(remote, [1]))
        assert bytes(receiver.pool.segments([1])[0]) == bytes(sender.pool.segments([2])[0])


@pytest.mark.usefixtures("needs_mooncake")
def test_defaults_reach_the_engine_of_a_fresh_process() -> None:
    code = "import os; from transfer.backends import mooncake; mooncake.load(); print(os.environ)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert all(f"'{name}': '{value}'" in done.stdout for name, value in mooncake.DEFAULTS.items())
