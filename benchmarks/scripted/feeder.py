"""An orchestrator with a way in that is not HTTP: python -m benchmarks.scripted.feeder

Control channel, core and service are those of `orchestrator.server`, in the same kind of event
loop; in the front door's place there is a socket that takes an `Ask` and answers it with a `Told`,
framed as between leader and rank. So what is measured through it is everything but HTTP and files.
It ends with its standard input.
"""

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from benchmarks.scripted.layers import follow_input
from orchestrator.control import Control, configure
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Service
from roles.calls import Frames, frame
from transfer.codec import Decoder, Message
from transfer.messages import Inputs, Media


class Ask(Message, frozen=True, tag="ask"):
    id: str
    inputs: Inputs


class Told(Message, frozen=True, tag="told"):
    id: str
    media: list[Media]


ask_decoder, told_decoder = Decoder(Ask), Decoder(Told)


class Feeder(asyncio.Protocol):
    """One connection, any number of requests at a time. A request that fails ends the process:
    none does in a benchmark."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._frames = Frames()
        self._running: set[asyncio.Task[None]] = set()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            task = asyncio.ensure_future(self._answer(ask_decoder.decode(body)))
            self._running.add(task)
            task.add_done_callback(self._done)

    async def _answer(self, ask: Any) -> None:
        done = await self._service.generate(ask.inputs, request_id=ask.id)
        if not self._transport.is_closing():  # the caller has measured enough
            self._transport.write(frame(Told(ask.id, done.media)))

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            print(f"a request failed: {error}", file=sys.stderr, flush=True)
            os._exit(1)


async def run() -> None:
    control = Control(configure(OrchestratorOptions()))
    control.bind("tcp://127.0.0.1:0")
    service = Service(control, 600.0)
    running = asyncio.ensure_future(control.run())
    server = await asyncio.get_running_loop().create_server(lambda: Feeder(service), "127.0.0.1", 0)
    facts = {"ready": True, "pid": os.getpid(), "control": control.endpoint}
    facts["http"] = f"feeder://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps(facts), flush=True)
    await running


if __name__ == "__main__":
    follow_input()
    uvloop.run(run())
