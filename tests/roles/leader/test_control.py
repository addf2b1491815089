"""The control client against a scripted orchestrator: it keeps its instance registered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from roles.leader import control
from roles.leader.control import ControlClient, RegistrationRefused
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from transfer.codec import Message, parting
from transfer.keys import KeyPair, make
from transfer.messages import (
    Abort,
    Close,
    Drain,
    Heartbeat,
    HostInfo,
    Left,
    ModelInfo,
    PoolAddress,
    Progressed,
    Refused,
    Register,
    RegisterAgain,
    Welcome,
)

BEAT_S = 0.05


class Orders:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.news = asyncio.Condition()

    async def heard(self, *wanted: Any) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: all(thing in self.told for thing in wanted))

    async def count(self, thing: Any, times: int) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: self.told.count(thing) >= times)

    def register(self, last_epoch: int) -> Register:
        self.note(("register", last_epoch))
        return Register(
            name="a",
            incarnation="i",
            last_epoch=last_epoch,
            endpoint="tcp://127.0.0.1:1",
            roles=["encoder"],
            capacity={"encoder": 2},
            model=ModelInfo("m", "P", "f", "image", []),
            pool=PoolAddress(1, 4096, 4096),
            ranks=[],
            host=HostInfo("h", "b", 1, 1),
        )

    async def forget(self) -> None:
        self.note("forget")

    def heartbeat(self, epoch: int) -> Heartbeat:
        return Heartbeat(epoch)

    def welcomed(self, welcome: Welcome) -> None:
        self.note(("welcomed", welcome.epoch))

    def work(self, work: Message) -> None:
        self.note(work)

    push = abort = work

    def drain(self, more: bool) -> None:
        self.note("drain")

    def close(self, reason: str) -> None:
        self.note(("close", reason))

    def note(self, thing: Any) -> None:
        self.told.append(thing)
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.news:
            self.news.notify_all()


@asynccontextmanager
async def client(endpoint: str, **settings: Any) -> AsyncIterator[tuple[ControlClient, Orders]]:
    orders = Orders()
    made = ControlClient(endpoint, orders, **settings)
    task = asyncio.create_task(made.run())
    try:
        yield made, orders
    finally:
        task.cancel()
        await asyncio.wait([task])
        await made.leave("the test is over")
        await made.close()


async def test_it_registers_and_passes_orders_on() -> None:
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        assert us.epoch == 1
        job, abort = work("r", "encoder", epoch=1), Abort(1, "r", 1, "why")
        for message in (job, abort, Drain(), Close("enough")):
            await them.say("a", message)
        await orders.heard(job, abort, "drain", ("close", "enough"))
        assert orders.told.index("forget") < orders.told.index(("register", 0))


async def test_it_may_be_started_first(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedOrchestrator() as them:
        port = them.port
    async with client(f"tcp://127.0.0.1:{port}", welcome_s=0.2) as (us, orders):
        await orders.count("forget", 2)  # it has tried, and tries again
        async with ScriptedOrchestrator(port):
            await asyncio.wait_for(us.registered.wait(), 20)


async def test_a_welcome_that_is_lost_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REPEAT_S", 0.05)
    async with ScriptedOrchestrator() as them:
        them.welcoming = False
        async with client(them.endpoint) as (us, orders):
            await orders.count(("register", 0), 2)
            them.welcoming = True
            await orders.heard(("welcomed", 1))
            assert orders.told.count("forget") == 1  # it is still the same connection
            await them.say("a", Welcome("a", 1, 0.2))  # the answer to what was said twice
            await them.say("a", Drain())
            await orders.heard("drain")
            assert us.registered.is_set()


async def test_another_epoch_than_ours_is_not_lived_in() -> None:
    """What was said twice came after the first registration had ended."""
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        await them.say("a", Welcome("a", 2, 0.2))
        await orders.count("forget", 2)
        await orders.heard(("welcomed", 2))
        assert us.epoch == 2


async def test_it_registers_again_when_it_is_unknown() -> None:
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        await them.say("a", RegisterAgain())
        await orders.heard(("welcomed", 2))
        assert us.epoch == 2
        again = orders.told.index(("register", 1))
        assert orders.told[again - 1] == "forget"  # nothing of epoch 1 goes on by then


async def test_it_survives_a_restart_of_the_orchestrator() -> None:
    async with ScriptedOrchestrator(heartbeat_s=BEAT_S) as them:
        port = them.port
        async with client(them.endpoint) as (_, orders):
            await orders.heard(("welcomed", 1))
            await them.__aexit__()
            async with ScriptedOrchestrator(port, heartbeat_s=BEAT_S):
                await orders.heard(("welcomed", 2))


async def test_it_registers_again_when_the_beats_stop() -> None:
    async with (
        ScriptedOrchestrator(heartbeat_s=BEAT_S) as them,
        client(them.endpoint, welcome_s=0.2) as (us, orders),
    ):
        await orders.heard(("welcomed", 1))
        them.answering = False
        await orders.count("forget", 2)
        assert not us.registered.is_set()
        them.answering = True
        await asyncio.wait_for(us.registered.wait(), 20)
        assert us.epoch > 1


async def test_any_word_counts_as_a_beat() -> None:
    async with (
        ScriptedOrchestrator(heartbeat_s=4 * BEAT_S) as them,
        client(them.endpoint) as (us, orders),
    ):
        await orders.heard(("welcomed", 1))
        them.beating = False
        for number in range(6 * control.MISSED_BEATS):
            await them.say("a", Abort(1, f"r{number}", 1, ""))
            await asyncio.sleep(BEAT_S)
        assert us.epoch == 1
        assert orders.told.count("forget") == 1


async def test_a_refusal_is_final() -> None:
    async with ScriptedOrchestrator() as them:
        them.welcoming = False
        orders = Orders()
        us = ControlClient(them.endpoint, orders)
        running = asyncio.create_task(us.run())
        await them.hear(Register)
        await them.say("a", Refused("the name a is taken"))
        with pytest.raises(RegistrationRefused, match="the name a is taken"):
            await asyncio.wait_for(running, 20)
        await us.close()


async def test_an_orchestrator_of_another_version_is_final_and_says_so() -> None:
    async with ScriptedOrchestrator() as them:
        them.welcoming = False
        us = ControlClient(them.endpoint, Orders())
        running = asyncio.create_task(us.run())
        await them.hear(Register)
        await them.say_bytes("a", parting(b"T\x09"))
        with pytest.raises(RegistrationRefused, match="install the same version on both sides"):
            await asyncio.wait_for(running, 20)
        await us.close()


async def test_garbage_costs_a_counter() -> None:
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        for frames in (
            [b""],
            [b"GET / HTTP/1.1"],
            [b"T\x09x"],
            [b"T\x01\xc1"],
            [b"two", b"frames"],
        ):
            await them.say_bytes("a", *frames)
        await them.say("a", Abort(1, "r", 1, ""))
        await orders.heard(Abort(1, "r", 1, ""))
        assert us.counters["garbage"] == 5
        assert us.epoch == 1


async def test_an_order_that_raises_costs_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        monkeypatch.setattr(orders, "drain", lambda: 1 / 0)
        await them.say("a", Drain())
        await them.say("a", Close("enough"))
        await orders.heard(("close", "enough"))
        assert us.counters["failed"] == 1


async def test_nothing_is_sent_for_an_epoch_that_is_over() -> None:
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        us.send(Progressed(0, "early", 1, "encoder", 1, 2))
        await orders.heard(("welcomed", 1))
        us.send(Progressed(1, "now", 1, "encoder", 1, 2))
        assert (await them.hear(Progressed)).request == "now"


async def test_what_is_not_taken_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_QUEUED", 3)
    async with ScriptedOrchestrator() as them, client(them.endpoint) as (us, orders):
        await orders.heard(("welcomed", 1))
        for step in range(10):
            us.send(Progressed(1, "r", 1, "encoder", step, 10))
        assert us.counters["dropped"] == 7
        us.send(Heartbeat(1))  # anything else is queued; a stuck line ends the connection
        await them.hear(Progressed, lambda m: m.step == 2)


async def test_leaving_says_goodbye_after_everything_else() -> None:
    async with ScriptedOrchestrator() as them:
        async with client(them.endpoint) as (us, orders):
            await orders.heard(("welcomed", 1))
            us.send(Progressed(1, "r", 1, "encoder", 1, 1))
        assert (await them.hear(Left)).reason == "the test is over"
        assert isinstance(them.heard[-1][1], Progressed)


# ---------------------------------------------------------------- keys


@pytest.fixture
def other(tmp_path: Path) -> KeyPair:
    """Of another cluster."""
    return make(tmp_path / "other")


async def refused(endpoint: str, keys: KeyPair | None = None) -> str:
    """What a client that is never let in ends with."""
    us = ControlClient(endpoint, Orders(), keys, welcome_s=0.5)
    with pytest.raises(RegistrationRefused) as ended:
        await asyncio.wait_for(us.run(), 20)
    await us.close()
    return str(ended.value)


async def test_a_key_of_another_cluster_is_told_from_silence(
    other: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedOrchestrator() as them:
        said = await refused(them.endpoint, other)
    assert f"{them.endpoint} hangs up on the key in {other.folder}" in said
    assert "copy the orchestrator's key folder to this host and name it with --keys" in said
    assert any(record.message == said for record in caplog.records)  # at once, not in the end
    assert "does not answer" not in caplog.text


async def test_a_key_that_only_the_guard_knows_to_be_wrong(
    other: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if half of the folder had been copied."""
    from tests.transfer.test_guard import door

    ours = make(other.folder.parent / "ours")
    of_client = KeyPair.of_client

    def mixed(keys: KeyPair, socket: "zmq.Socket[bytes]") -> None:
        of_client(keys, socket)
        socket.setsockopt(zmq.CURVE_SERVERKEY, ours.public)

    monkeypatch.setattr(KeyPair, "of_client", mixed)
    async with door(ours) as at:
        said = await refused(at.endpoint, other)
    assert f"does not accept the key in {other.folder}: copy the orchestrator's" in said


async def test_a_port_without_keys_is_told_from_a_wrong_key() -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as bare:
        bare.bind("tcp://127.0.0.1:*")
        said = await refused(bare.get_string(zmq.LAST_ENDPOINT))
        bare.close(linger=0)
    assert "takes no keys" in said or "hangs up on the key" in said  # whoever is first


async def test_another_program_s_port() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await refused(f"tcp://127.0.0.1:{port}")
    assert "unless another program listens there" in said


async def test_who_was_welcomed_once_waits_for_the_right_orchestrator(other: KeyPair) -> None:
    async with ScriptedOrchestrator(heartbeat_s=BEAT_S) as them:
        port = them.port
        async with client(them.endpoint, welcome_s=0.3) as (us, orders):
            await orders.heard(("welcomed", 1))
            await them.__aexit__()
            async with ScriptedOrchestrator(port, keys=other):
                for _ in range(4):  # each is longer than welcome_s
                    await orders.count("forget", orders.told.count("forget") + 1)
            async with ScriptedOrchestrator(port, heartbeat_s=BEAT_S):
                await orders.heard(("welcomed", 2))
            assert us.epoch == 2
