"""A role that computes nothing: python -m benchmarks.scripted.role ORCHESTRATOR ROLE CAPACITY

It keeps the protocol of a leader (register, beat, accept payloads, deliver, finish) with plain
blocking sockets and nothing behind them: no tensors, no memory, no ranks. A decoder also serves the
same tiny picture, whatever file it is asked for. It ends with its standard input.
"""

import json
import os
import sys
import threading
import time

import zmq

from roles.leader.introduction import this_host
from transfer.codec import Message, encode
from transfer.keys import cluster_keys
from transfer.made import ImageMade
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Delivered,
    Finished,
    Heartbeat,
    Media,
    MediaChunk,
    MediaRead,
    ModelInfo,
    Parameter,
    PoolAddress,
    Push,
    RankInfo,
    Refused,
    Register,
    RegisterAgain,
    Role,
    Staged,
    StageReport,
    Welcome,
    Work,
    from_orchestrator,
    to_media,
)

MODEL = ModelInfo(
    "bench", "Bench", "f00d", "image", [Parameter("prompt", "str", True)], default_size=(8, 8)
)
PICTURE = b"\x89PNG" + bytes(66)  # as short as the smallest ones; nobody looks at it here
REPORT = StageReport()
NBYTES = 1000
BEAT_S = 1.0


class ScriptedRole:
    def __init__(self, orchestrator: str, role: Role, capacity: int) -> None:
        self.role: Role = role
        self.capacity = capacity
        self.epoch = 0
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.control, keys = context.socket(zmq.DEALER), cluster_keys()
        keys.of_client(self.control)
        self.control.connect(orchestrator)
        self.media = context.socket(zmq.ROUTER)
        keys.of_server(self.media)
        port = self.media.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"

    def serve(self) -> None:
        """Ends only with the process."""
        self.register()
        poller = zmq.Poller()
        poller.register(self.control, zmq.POLLIN)
        poller.register(self.media, zmq.POLLIN)
        beaten = time.monotonic()
        while True:
            ready = dict(poller.poll(self.patience_s * 1000))
            if self.control in ready:
                self.drain(self.control, lambda frames: self.obey(frames[0]))
            if self.media in ready:
                self.drain(self.media, self.give)
            self.turn()
            if self.epoch and time.monotonic() - beaten > BEAT_S:
                beaten = time.monotonic()
                self.say(Heartbeat(self.epoch))

    @property
    def patience_s(self) -> float:
        """For how long it may wait for a message."""
        return BEAT_S

    def turn(self) -> None:
        """Between messages."""

    def drain(self, socket, handle) -> None:
        while True:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            handle(frames)

    def register(self) -> None:
        self.say(
            Register(
                name=f"{self.role}-0",
                incarnation=str(os.getpid()),
                last_epoch=self.epoch,
                endpoint=self.endpoint,
                roles=[self.role],
                capacity={self.role: self.capacity},
                model=MODEL,
                pool=PoolAddress(2 * self.capacity + 2, 4096, 0),
                ranks=[RankInfo(0, os.getpid(), "ready")],
                host=this_host(),
            )
        )

    def obey(self, frame: bytes) -> None:
        match from_orchestrator.decode(frame):
            case Work() as work:
                self.work(work)
            case Push(request=request, attempt=attempt, grant=grant):
                about = (self.epoch, request, attempt, self.role)
                self.say(Delivered(*about, grant.generation, NBYTES, 1, REPORT))
            case Abort(request=request, attempt=attempt):
                self.say(Aborted(self.epoch, request, attempt))
            case Welcome(epoch=epoch, name=name):
                self.epoch = epoch
                print(json.dumps({"ready": True, "name": name, "pid": os.getpid()}), flush=True)
            case RegisterAgain():
                self.register()
            case Refused(reason=reason):
                sys.exit(reason)

    def work(self, work: Work) -> None:
        about = (self.epoch, work.request, work.attempt, self.role)
        if work.delivery is not None:
            self.say(Accepted(*about, work.delivery.generation))
        if work.last:
            self.say(Finished(*about, [self.picture(work.request)], REPORT))
        elif work.grant is not None:
            self.say(Delivered(*about, work.grant.generation, NBYTES, 1, REPORT))
        else:
            self.say(Staged(*about, NBYTES, None, REPORT))

    def picture(self, id: str) -> Media:
        return Media(id, ImageMade(8, 8), "image/png", len(PICTURE), endpoint=self.endpoint)

    def give(self, frames: list[bytes]) -> None:
        message = to_media.decode(frames[1])
        if isinstance(message, MediaRead):
            chunk = PICTURE[message.offset : message.offset + message.length]
            answer = encode(MediaChunk(message.id, message.offset, chunk))
            self.media.send_multipart([frames[0], answer])

    def say(self, message: Message) -> None:
        self.control.send(encode(message))


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    ScriptedRole(sys.argv[1], sys.argv[2], int(sys.argv[3])).serve()  # type: ignore[arg-type]
