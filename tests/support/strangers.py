"""Everything that may come to a control port and is not ours, as a process of its own.

    python -m tests.support.strangers ATTACK tcp://HOST:PORT COUNT SEED [BOMB]

BOMB is a file that comes into being if anybody loads the pickles that are sent. Prints how many
connections were made. What the other side does is not waited for, but where silence is the attack.
"""

import asyncio
import contextlib
import os
import pickle
import random
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from transfer.codec import MAX_FRAME_BYTES, encode
from transfer.keys import cluster_keys
from transfer.messages import Heartbeat

AT_ONCE = 64
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"


class Bomb:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


class Target:
    """Where the strangers go, their dice, and how often they went."""

    def __init__(self, endpoint: str, count: int, seed: int, bomb: Path) -> None:
        self.endpoint, self.count, self.made = endpoint, count, 0
        self.dice = random.Random(seed)
        self.pickles = [pickle.dumps(Bomb(bomb), protocol) for protocol in range(6)]
        self._host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self._port = int(port)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = await asyncio.open_connection(self._host, self._port)
        self.made += 1
        return made

    async def throw(self, data: bytes) -> None:
        """A connection that says this, and goes."""
        with contextlib.suppress(OSError):
            _, writer = await self.connect()
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def throw_all(self, what: list[bytes]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(data: bytes) -> None:
            async with gate:
                await self.throw(data)

        await asyncio.gather(*map(one, what))


async def noise(target: Target) -> None:
    """Random bytes; a third behind a greeting, so that they are read as frames."""
    dice = target.dice
    heads = [b"", SIGNATURE, greeting(b"CURVE")]
    await target.throw_all(
        [dice.choice(heads) + dice.randbytes(dice.randint(0, 4096)) for _ in range(target.count)]
    )


async def hellos(target: Target) -> None:
    """Other protocols, ZeroMQ without our key, and pickles."""
    each = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/images/generations HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        tls_hello(),
        greeting(b"NULL") + command(b"\x05READY"),
        greeting(b"PLAIN") + command(b"\x05HELLO\x04root\x04root"),
        greeting(b"CURVE") + command(b"\x05HELLO\x01\x00" + target.dice.randbytes(192)),
        greeting(b"CURVE", as_server=1) + command(b"\x07WELCOME" + target.dice.randbytes(160)),
        greeting(b"\xff" * 20),
        b"\x01\x00",  # ZMTP 1
        SIGNATURE + b"\x01\x05\x00\x00",  # ZMTP 2
        *target.pickles,
        *(greeting(b"NULL") + command(b"\x05READY") + frame(each) for each in target.pickles),
        *(greeting(b"CURVE") + frame(each) for each in target.pickles),
    ]
    await target.throw_all((each * (target.count // len(each) + 1))[: target.count])


async def half_open(target: Target) -> None:
    """Connections that say nothing, or not all of a greeting, until they are hung up on."""

    async def wait(head: bytes) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await target.connect()
            writer.write(head)
            await reader.read()
            while await reader.read(65536):
                pass
            writer.close()

    heads = [b"", SIGNATURE[:5], SIGNATURE, greeting(b"CURVE")[:40], greeting(b"CURVE")]
    await asyncio.gather(*(wait(heads[number % len(heads)]) for number in range(target.count)))


async def large_claims(target: Target) -> None:
    """Greetings, and then frames that are announced as larger than what comes of them."""
    sizes = [MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1000, 1 << 31, (1 << 63) - 1, (1 << 64) - 1]

    async def claim(size: int) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await target.connect()
            long_command = b"\x06"
            writer.write(greeting(b"CURVE") + long_command + size.to_bytes(8, "big"))
            writer.write(bytes(64 << 10))
            while await reader.read(65536):
                pass
            writer.close()

    await asyncio.gather(*(claim(sizes[number % len(sizes)]) for number in range(target.count)))


async def insiders(target: Target) -> None:
    """Somebody who has the key, and sends anything but our messages."""
    dice, good = target.dice, encode(Heartbeat(1))
    with zmq.asyncio.Context() as context:
        for _ in range(max(1, target.count // 100)):
            peer = context.socket(zmq.DEALER)
            cluster_keys().of_client(peer)
            peer.connect(target.endpoint)
            target.made += 1
            for number in range(100):
                any_frame = [
                    dice.choice(target.pickles),
                    good[:2] + dice.choice(target.pickles),
                    dice.randbytes(dice.randint(0, 4096)),
                    good[:2] + dice.randbytes(dice.randint(0, 4096)),
                    good[:2] + b"\x91" * 5000,
                    good + b"x",
                    b"",
                ]
                frames = dice.choices(any_frame, k=dice.choice([1, 1, 1, 2, 5]))
                if number == 99:
                    frames = [bytes(MAX_FRAME_BYTES + (1 << 20))]  # costs the connection
                await peer.send_multipart(frames)
            peer.close(linger=1000)


def greeting(mechanism: bytes, as_server: int = 0) -> bytes:
    """The first 64 bytes of ZMTP 3.0 (RFC 23)."""
    return SIGNATURE + b"\x03\x00" + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def command(body: bytes) -> bytes:
    return b"\x04" + bytes([len(body)]) + body


def frame(body: bytes) -> bytes:
    long = len(body) > 255
    return bytes([2 * long]) + len(body).to_bytes(8 if long else 1, "big") + body


def tls_hello() -> bytes:
    """What a TLS client says first."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="triptych").do_handshake()
    return out.read()


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    each.__name__: each for each in (noise, hellos, half_open, large_claims, insiders)
}


async def attack(name: str, endpoint: str, count: int, *, seed: int = 1, bomb: Path) -> int:
    """Runs one in a process of its own, to its end; how many connections it made."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, name, endpoint, str(count), str(seed), str(bomb)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the attack {name} ended with {process.returncode}")
    return int(out)


if __name__ == "__main__":
    target = Target(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    asyncio.run(ATTACKS[sys.argv[1]](target))  # type: ignore[arg-type]
    print(target.made)
