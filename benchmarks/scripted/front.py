"""The whole orchestrator, or a server that does nothing: python -m benchmarks.scripted.front WHICH

orchestrator [MAX_QUEUE]: `orchestrator.server.serve`, on free ports. trivial: an HTTP server that
answers whatever it gets with the same bytes, as many as an images reply has: what is measured
against it is the caller's own cost. Both end with their standard input.
"""

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from benchmarks.scripted.layers import follow_input
from orchestrator.options import OrchestratorOptions
from orchestrator.server import serve

BODY = b"{" + b" " * 460 + b"}"
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(BODY)
REPLY += b"x-filler: " + b"." * 300 + b"\r\n\r\n" + BODY


class Trivial(asyncio.Protocol):
    """Takes every piece that comes for one request: the caller sends each in one, and waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(REPLY)


async def trivial() -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps({"ready": True, "pid": os.getpid(), "http": url}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    follow_input()
    if sys.argv[1] == "trivial":
        uvloop.run(trivial())
    else:
        queue = {"max_queue": int(sys.argv[2])} if len(sys.argv) > 2 else {}
        sys.exit(serve(OrchestratorOptions(**queue)))
