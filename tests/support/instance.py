"""An instance's slots and transport in a process of its own, driven over its standard input.

`Instance` is the test's side; running this file as a module is the other. It is started by exec,
never forked: Mooncake does not survive a fork.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Self

import msgspec
import xxhash

from transfer.errors import TransferError, TransferFailed
from transfer.header import check_header, write_header
from transfer.messages import Delivery, Grant, PoolAddress
from transfer.pool import SlotPool
from transfer.transport import Transport

PATIENCE_S = 60.0
FILL = 0xA5


class Instance:
    """A process that receives into its inbox, and sends from its outbox when told to."""

    def __init__(
        self,
        transfer: str,
        *,
        slots: int = 24,
        slot_bytes: int = 64 << 10,
        outbox_slots: int = 0,
        contact_s: float = 3.0,
        env: dict[str, str] | None = None,
    ) -> None:
        arguments = [transfer, str(slots), str(slot_bytes), str(outbox_slots), str(contact_s)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.instance", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | (env or {}),
        )
        self.address = msgspec.convert(self.answer(), PoolAddress)

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, **arguments: Any) -> Any:
        self.start_call(method, **arguments)
        return self.answer()

    def start_call(self, method: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode([method, arguments]) + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """SIGSTOP, and back when the process has stopped."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def finish(self) -> int:
        """Ends the process in an orderly way; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        assert ready, "the instance does not answer"
        line = self._process.stdout.readline()
        assert line, f"the instance ended with {self._process.wait(PATIENCE_S)}"
        return json.loads(line)


class _Served:
    """The methods that a test may call."""

    def __init__(self, pool: SlotPool, transport: Transport) -> None:
        self.pool = pool
        self.transport = transport

    def fill(self) -> None:
        for segment in self.pool.segments(range(self.pool.slots)):
            segment[:] = bytes([FILL]) * len(segment)

    def digest(self, slots: list[int], nbytes: int | None = None) -> str:
        return digest(self.pool.segments(slots, nbytes))

    async def send(self, slots: list[int], nbytes: int, grant: Any) -> Any:
        granted = msgspec.convert(grant, Grant)
        start = time.monotonic()
        try:
            await self.transport.send(slots, nbytes, granted, start)
        except TransferFailed as error:
            return {"error": str(error), "may_land": error.may_land}
        return {"seconds": time.monotonic() - start}

    async def race(self, slots: list[int], nbytes: int, first: Any, second: Any) -> Any:
        """Sends one payload while another send is on its way; tells of the second."""
        slow = asyncio.create_task(self.send(slots, nbytes, first))
        await asyncio.sleep(0)
        outcome = await self.send(slots, nbytes, second)
        assert not slow.done()
        slow.cancel()
        return outcome

    async def echo(self, request: str, delivery: Any, slots: list[int], grant: Any) -> Any:
        """Takes a payload out as a rank does, packs the value again, and sends it back."""
        from transfer.payload import pack, unpack  # torch, which few tests need

        came = msgspec.convert(delivery, Delivery)
        granted = msgspec.convert(grant, Grant)
        segments = self.pool.segments(came.slots, came.nbytes)
        try:
            check_header(segments[0], request, granted.attempt, came)
            packed = pack(unpack(segments, came.nbytes, came.checksum))
        except TransferError as error:
            return {"error": str(error)}
        outbox = self.pool.segments(slots, packed.nbytes)
        checksum = packed.write(outbox)
        header = (request, granted.attempt, granted.generation, packed.nbytes, checksum)
        write_header(outbox[0], *header)
        await self.transport.send(slots, packed.nbytes, granted, time.monotonic())
        return {"nbytes": packed.nbytes, "checksum": checksum}


def digest(segments: list[memoryview]) -> str:
    hasher = xxhash.xxh3_128()
    for segment in segments:
        hasher.update(segment)
    return hasher.hexdigest()


def _say(value: Any) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


async def _main(
    transfer: Any, slots: str, slot_bytes: str, outbox_slots: str, contact_s: str
) -> None:
    pool = SlotPool.create(int(slots), int(slot_bytes), int(outbox_slots))
    served = _Served(pool, Transport(pool, transfer, contact_s=float(contact_s)))
    _say(served.transport.address())
    for line in sys.stdin:
        method, arguments = json.loads(line)
        result = getattr(served, method)(**arguments)
        _say(await result if asyncio.iscoroutine(result) else result)
    await served.transport.close()
    pool.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
