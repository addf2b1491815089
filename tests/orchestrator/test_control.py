"""The control channel with real sockets and scripted instances."""

import asyncio
import contextlib
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from orchestrator.control import Control, configure
from orchestrator.core.attempts import InvalidTransition
from orchestrator.core.commands import Command
from orchestrator.core.events import Cancel, Event
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Completed, RequestFailed, Service
from tests.support.bench import INPUTS
from tests.support.scripted_dealer import dealers
from transfer.codec import MAGIC, MAX_FRAME_BYTES, PROTOCOL, encode
from transfer.keys import KeyPair, cluster_keys, make
from transfer.messages import (
    SPLIT_ROUTE,
    Close,
    Heartbeat,
    HostInfo,
    Inputs,
    RegisterAgain,
    Welcome,
    Work,
)
from transfer.processes import start_ticks

DEADLINE_S = 10.0


@contextlib.asynccontextmanager
async def _running(bind: str = "tcp://127.0.0.1:0") -> AsyncIterator[tuple[Control, Service]]:
    control = Control(configure(OrchestratorOptions()))
    control.bind(bind)
    task = asyncio.create_task(control.run())
    try:
        yield control, Service(control, 60.0)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        control.close()


async def _generate(service: Service, id: str) -> Completed:
    async with asyncio.timeout(DEADLINE_S):
        return await service.generate(INPUTS, request_id=id)


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def test_requests_pass_through_three_instances() -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        results = await asyncio.gather(*(_generate(service, f"r{i}") for i in range(50)))
        assert all(len(result.media) == 1 for result in results)
        await _eventually(lambda: control.machine.idle)
        view = service.cluster()
        assert (view.requests.completed, view.requests.running) == (50, 0)


async def test_port_zero_is_reported_as_the_real_port() -> None:
    async with _running("tcp://0.0.0.0:0") as (control, _):
        host, port = control.endpoint.removeprefix("tcp://").split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0


@pytest.mark.parametrize("address", ["ipc:///tmp/x", "tcp://nowhere", "tcp://127.0.0.1:http"])
async def test_other_addresses_are_refused(address: str) -> None:
    control = Control(configure(OrchestratorOptions()))
    with pytest.raises(ValueError, match="is not tcp://HOST:PORT"):
        control.bind(address)
    control.close()


async def test_taken_port_is_an_error_that_names_it() -> None:
    async with _running() as (control, _):
        second = Control(configure(OrchestratorOptions()))
        with pytest.raises(OSError, match=control.endpoint):
            second.bind(control.endpoint)
        second.close()


# ---------------------------------------------------------------- garbage


def _frames(dice: random.Random) -> list[list[bytes]]:
    good = encode(Heartbeat(1))
    return [
        [dice.randbytes(dice.randint(0, 300))],
        [],
        [b"", good],
        [good, good],
        [b"T\x01"],
        [b"T\x63" + good[2:]],
        [good[:-1]],
        [good + b"\x00"],
        [encode(Close("not for us"))],
        [pickle.dumps(os.getcwd)],
        [b"T\x01" + b"\x91" * 5000],
        [b"GET / HTTP/1.1\r\n\r\n"],
    ]


async def _zmq_storm(endpoint: str, seed: int, count: int, heard: asyncio.Event) -> None:
    """Hangs up once `heard`: what is answered to it and never read would make the kernel reset the
    connection, and drop what the other side has not read yet."""
    dice = random.Random(seed)
    context = zmq.asyncio.Context()
    stranger = context.socket(zmq.DEALER)
    cluster_keys().of_client(stranger)
    stranger.connect(endpoint)
    for _ in range(count):
        frames = dice.choice(_frames(dice))
        if frames:
            await stranger.send_multipart(frames)
    await heard.wait()
    stranger.close(linger=0)
    await asyncio.to_thread(context.term)


async def _tcp_storm(endpoint: str, seed: int, count: int) -> None:
    dice = random.Random(seed)
    host, port = endpoint.removeprefix("tcp://").split(":")
    hellos = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b""]
    for _ in range(count):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(dice.choice([*hellos, dice.randbytes(200)]))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_t2_garbage_storm_while_requests_pass(caplog: pytest.LogCaptureFixture) -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        heard = asyncio.Event()
        async with asyncio.TaskGroup() as storms:
            for seed in range(3):
                storms.create_task(_zmq_storm(control.endpoint, seed, 500, heard))
            for seed in range(2):
                storms.create_task(_tcp_storm(control.endpoint, seed, 50))
            results = await asyncio.gather(*(_generate(service, f"r{i}") for i in range(100)))
            assert sum(isinstance(result, Completed) for result in results) == 100
            await _eventually(lambda: sum(_garbage(control).values()) > 1000)
            heard.set()
        assert set(_garbage(control)) == {
            f"protocol_errors_{reason}" for reason in ("frames", "magic", "version", "message")
        }
        # one line for each reason, not one for each frame
        assert sum("garbage" in record.message for record in caplog.records) == 4
        assert await _generate(service, "after")


def _garbage(control: Control) -> dict[str, int]:
    return {k: v for k, v in control.counters.items() if k.startswith("protocol_errors")}


async def test_f17_a_peer_of_another_version_is_told_why_nobody_answers() -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        context = zmq.asyncio.Context()
        later = context.socket(zmq.DEALER)
        later.setsockopt(zmq.LINGER, 0)
        cluster_keys().of_client(later)
        later.connect(control.endpoint)
        for number in (PROTOCOL + 1, 255):
            await later.send(bytes([MAGIC, number]) + b"whatever that version says")
            async with asyncio.timeout(DEADLINE_S):
                answer = await later.recv()
            assert answer[:2] == bytes([MAGIC, 0])
            assert answer[2:].decode().endswith(f"and this instance protocol {number}")
        await later.send(answer)  # to which nothing is answered: two versions would never end
        await later.send(bytes([MAGIC, PROTOCOL + 2, 0]))
        async with asyncio.timeout(DEADLINE_S):
            assert f"protocol {PROTOCOL + 2}".encode() in await later.recv()
        assert control.counters["protocol_errors_parting"] == 1
        assert await _generate(service, "beside it")
        later.close()
        await asyncio.to_thread(context.term)


async def test_half_open_connections_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.guard.HANDSHAKE_S", 0.2)
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        host, port = control.endpoint.removeprefix("tcp://").split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        assert await _generate(service, "beside them")
        async with asyncio.timeout(DEADLINE_S):
            for reader, writer in silent:
                await reader.read()  # to the end, which the other side has to make
                writer.close()
                await writer.wait_closed()


async def _visit(endpoint: str, keys: KeyPair | None, messages: int = 1) -> None:
    """A stranger that knocks with these keys, says something, and goes when it was turned away."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            keys.of_client(stranger)
        with stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            stranger.connect(endpoint)
            for _ in range(messages):
                await stranger.send(encode(Heartbeat(1)))
            assert await monitor.poll(DEADLINE_S * 1000)
            stranger.disable_monitor()


async def test_strangers_are_turned_away_counted_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make(tmp_path / "other")
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        visits = [_visit(control.endpoint, keys) for keys in [other, None] * 10]
        results, *_ = await asyncio.gather(_generate(service, "beside them"), *visits)
        assert isinstance(results, Completed)
        await _eventually(lambda: _refused(control) >= 20)
        assert control.counters["handshakes_refused_key"] >= 10
        assert not _garbage(control)  # not a word of theirs was read
        told = [r.message for r in caplog.records if "turned away" in r.message]
        at_once = [text.partition(":")[0] for text in told if "times more" not in text]
        assert len(at_once) == len(set(at_once)) <= 3
        assert any(str(cluster_keys().folder) in text for text in told)


def _refused(control: Control) -> int:
    return sum(n for name, n in control.counters.items() if name.startswith("handshakes_refused"))


async def test_a_frame_of_the_largest_size_passes_and_a_larger_one_does_not() -> None:
    async with _running() as (control, _):
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.setsockopt(zmq.LINGER, 0)
            cluster_keys().of_client(peer)
            with peer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                peer.connect(control.endpoint)
                await peer.send(bytes(MAX_FRAME_BYTES))
                await _eventually(lambda: _garbage(control) == {"protocol_errors_magic": 1})
                await peer.send(bytes(MAX_FRAME_BYTES + 1))
                assert await monitor.poll(DEADLINE_S * 1000)
                peer.disable_monitor()
        assert _garbage(control) == {"protocol_errors_magic": 1}


# ---------------------------------------------------------------- comings and goings


async def test_t7_restarted_orchestrator_is_registered_with_again() -> None:
    async with contextlib.AsyncExitStack() as outliving:
        async with _running() as (control, _):
            endpoint = control.endpoint
            made = await outliving.enter_async_context(dealers(endpoint, *SPLIT_ROUTE))
        async with _running(endpoint) as (_, service):
            for dealer in made:
                await dealer.until(RegisterAgain)
                await dealer.until(Welcome, lambda welcome: welcome.epoch == 2)
            assert await _generate(service, "after the restart")


async def test_death_of_a_process_on_this_host_is_seen_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = _host_of(process.pid)
    async with (
        _running() as (control, service),
        dealers(control.endpoint, "encoder", host=host) as made,
        dealers(control.endpoint, "denoiser", "decoder"),
    ):
        made[0].idle = True
        asking = asyncio.create_task(_generate(service, "a"))
        await made[0].until(Work)
        began = time.monotonic()
        process.kill()  # and not waited for: a zombie is dead enough
        with pytest.raises(RequestFailed) as failed:
            await asking
        assert failed.value.error.kind == "instance_lost"
        assert "process has ended" in failed.value.error.message
        assert time.monotonic() - began < 2.0
    process.communicate()


async def test_process_that_is_not_the_one_it_claims_to_be_proves_nothing() -> None:
    """Another container's pids mean nothing here, whatever its boot id."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    told = _host_of(process.pid)
    host = HostInfo(told.hostname, told.boot_id, told.pid, told.start_ticks - 1)
    async with (
        _running() as (control, service),
        dealers(control.endpoint, *SPLIT_ROUTE, host=host),
    ):
        process.kill()
        process.communicate()
        assert await _generate(service, "a")
        assert "instances_lost" not in control.counters


def _host_of(pid: int) -> HostInfo:
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot_id = file.read().strip()
    return HostInfo("here", boot_id, pid, start_ticks(pid))


async def test_vanished_connection_is_found_out_when_something_is_sent() -> None:
    async with _running() as (control, service):
        async with dealers(control.endpoint, *SPLIT_ROUTE):
            assert await _generate(service, "a")
        # nobody is there any more, and nobody said goodbye
        await _eventually(lambda: not any(_reachable(control)))
        asking = asyncio.create_task(_generate(service, "b"))
        async with dealers(control.endpoint, *SPLIT_ROUTE):
            assert (await asking).attempts > 0
        assert control.counters["control_unsent"] > 0


def _reachable(control: Control) -> list[bytes]:
    """The connections for which ZeroMQ would still take a message."""

    def takes(connection: bytes) -> bool:
        try:
            control._socket.send_multipart([connection, encode(RegisterAgain())], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    return [each for each in control.machine.connections if takes(each)]


# ---------------------------------------------------------------- bugs of ours


async def test_a_bug_costs_one_request_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE) as made:
        made[0].idle = True
        asking = asyncio.create_task(_generate(service, "a"))
        await made[0].until(Work)
        handle = control.machine.handle

        def broken(event: Event, now: float) -> list[Command]:
            monkeypatch.undo()
            raise InvalidTransition("a", "once upon a time")

        monkeypatch.setattr(control.machine, "handle", broken)
        control.post(Cancel("a", "whatever"))
        with pytest.raises(RequestFailed) as failed:
            await asking
        assert failed.value.error.kind == "internal"
        assert "once upon a time" in caplog.text
        assert control.counters["invalid_transitions"] == 1
        made[0].idle = False
        assert await _generate(service, "b")
        assert control.machine.handle == handle


async def test_an_unexpected_exception_is_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):

        def broken(event: Event, now: float) -> list[Command]:
            monkeypatch.undo()
            raise ZeroDivisionError("scripted")

        monkeypatch.setattr(control.machine, "handle", broken)
        control.post(Cancel("a", "whatever"))
        assert control.counters["control_errors"] == 1
        assert "scripted" in caplog.text
        assert await _generate(service, "b")


async def test_work_that_cannot_be_encoded_costs_its_request_only() -> None:
    async with _running() as (control, service), dealers(control.endpoint, *SPLIT_ROUTE):
        huge = Inputs({"prompt": "x" * (5 << 20)}, seed=1)
        with pytest.raises(RequestFailed) as failed:
            await service.generate(huge, request_id="huge")
        assert failed.value.error.kind == "internal"
        assert await _generate(service, "b")


async def test_instances_are_told_when_the_orchestrator_ends() -> None:
    control = Control(configure(OrchestratorOptions()))
    control.bind("tcp://127.0.0.1:0")
    task = asyncio.create_task(control.run())
    async with dealers(control.endpoint, "encoder") as [encoder]:
        task.cancel()
        await asyncio.wait([task])
        control.close()
        assert await encoder.until(RegisterAgain)


async def test_a_bug_in_the_loop_itself_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control(configure(OrchestratorOptions()))
    control.bind("tcp://127.0.0.1:0")

    def broken() -> None:
        raise ZeroDivisionError("scripted")

    monkeypatch.setattr(control._complaints, "flush", broken)
    with pytest.RaisesGroup(ZeroDivisionError):
        async with asyncio.timeout(DEADLINE_S):
            await control.run()
    control.close()
