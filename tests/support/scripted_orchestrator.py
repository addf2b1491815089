"""The orchestrator's end of the control channel, played by a test: a ROUTER that says what it is
told to say, and remembers what it hears."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import zmq
import zmq.asyncio
from msgspec.structs import replace

from transfer.codec import Message, encode
from transfer.keys import KeyPair, cluster_keys
from transfer.messages import (
    Beat,
    Delivered,
    Delivery,
    Grant,
    Heartbeat,
    Inputs,
    Lora,
    Register,
    RegisterAgain,
    Role,
    StateChanged,
    Welcome,
    Work,
    from_instance,
)

M = TypeVar("M", bound=Message)
DEADLINE_S = 30.0


class ScriptedOrchestrator:
    """Answers Register with Welcome (the next epoch; what is said twice on one connection, with the
    same) and Heartbeat with Beat, unless told not to; and RegisterAgain to whom it does not know.

    Everything else lands in `heard`, as (name, message); `await hear(Type, …)` takes the first one
    of that type that fits out of it, waiting up to a deadline.
    """

    def __init__(
        self, port: int = 0, heartbeat_s: float = 0.2, keys: KeyPair | None = None
    ) -> None:
        self.welcoming = True
        self.beating = True
        self.answering = True
        self.heartbeat_s = heartbeat_s
        self.heard: list[tuple[str, Message]] = []
        self.registered: dict[str, Register] = {}
        self._identities: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._epochs = itertools.count(1)
        self._epoch_of: dict[str, int] = {}
        self._welcomed: set[bytes] = set()
        self._generations = itertools.count(100)
        self._news = asyncio.Condition()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        (keys or cluster_keys()).of_server(self._socket)
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)

    async def __aenter__(self) -> "ScriptedOrchestrator":
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._socket.close()
        self._context.term()

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    async def say(self, name: str, message: Message) -> None:
        """What belongs to epoch 0 is of the epoch that this name has now."""
        if getattr(message, "epoch", None) == 0:
            message = replace(message, epoch=self._epoch_of[name])
        await self._socket.send_multipart([self._identities[name], encode(message)])

    async def say_bytes(self, name: str, *frames: bytes) -> None:
        await self._socket.send_multipart([self._identities[name], *frames])

    async def hear(
        self,
        kind: type[M],
        fits: Callable[[M], bool] = lambda _: True,
        *,
        of: str | None = None,
        seconds: float = DEADLINE_S,
    ) -> M:
        async with asyncio.timeout(seconds), self._news:
            while True:
                for entry in self.heard:
                    name, message = entry
                    if isinstance(message, kind) and of in (None, name) and fits(message):
                        self.heard.remove(entry)
                        return message
                await self._news.wait()

    async def ready(self, name: str) -> Register:
        """Waits until an instance has registered and said that it is ready."""
        await self.hear(StateChanged, lambda m: m.state == "ready", of=name)
        return self.registered[name]

    def grant(
        self,
        request: str,
        receiver: str,
        slots: list[int],
        *,
        attempt: int = 1,
        seconds: float = 60,
    ) -> Grant:
        register = self.registered[receiver]
        return Grant(
            request=request,
            attempt=attempt,
            generation=next(self._generations),
            receiver=receiver,
            receiver_epoch=1,
            slots=slots,
            seconds=seconds,
            pool=register.pool,
        )

    def deliver(self, grant: Grant, delivered: Delivered) -> Delivery:
        """What the receiver is told of a payload that was written into the grant."""
        assert delivered.generation == grant.generation
        return Delivery(grant.generation, grant.slots, delivered.nbytes, delivered.checksum)

    async def _listen(self) -> None:
        while True:
            identity, frame = await self._socket.recv_multipart()
            if not self.answering:
                continue
            message = from_instance.decode(frame)
            if isinstance(message, Register):
                await self._register(identity, message)
            elif identity not in self._names:
                await self._socket.send_multipart([identity, encode(RegisterAgain())])
            elif isinstance(message, Heartbeat) and self.beating:
                await self._socket.send_multipart([identity, encode(Beat())])
            async with self._news:
                if not isinstance(message, Heartbeat):
                    self.heard.append((self._names.get(identity, "?"), message))
                self._news.notify_all()

    async def _register(self, identity: bytes, message: Register) -> None:
        again = self._names.get(identity) == message.name and identity in self._welcomed
        self._identities[message.name] = identity
        self._names[identity] = message.name
        self.registered[message.name] = message
        if self.welcoming:
            if not again:
                self._epoch_of[message.name] = max(next(self._epochs), message.last_epoch + 1)
            self._welcomed.add(identity)
            epoch = self._epoch_of[message.name]
            await self.say(message.name, Welcome(message.name, epoch, self.heartbeat_s))


def work(
    request: str,
    role: Role,
    *,
    attempt: int = 1,
    epoch: int = 0,
    seconds: float = 60.0,
    delivery: Delivery | None = None,
    grant: Grant | None = None,
    seed: int = 1,
    exact: bool = False,
    loras: Sequence[Lora] = (),
    **params: object,
) -> Work:
    return Work(
        epoch=epoch,
        request=request,
        attempt=attempt,
        role=role,
        last=role in ("decoder", "monolithic"),
        inputs=Inputs(params=params, seed=seed, exact=exact, loras=[*loras]),  # type: ignore[arg-type]
        seconds=seconds,
        delivery=delivery,
        grant=grant,
    )
