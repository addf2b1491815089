"""A rank without a model, for tests of the worker pool: python -m tests.support.scripted_rank.

It speaks the calls' own protocol and does what the `request` of a Drop says:

fine            answers with Stored(attempt)
raise:R         rank R raises, the others are fine
exit:R kill:R   rank R exits with code 5, or dies of SIGKILL, before it answers
hang:R          rank R never answers this call, but the next ones
late:R          rank R answers this call only when the next one has come
garbage:R       rank R sends bytes that are no frame
tells:R         rank R says how far it is, twice, before it answers
deaf:R          rank R ignores Shutdown from now on
stubborn:R      rank R ignores SIGTERM too
"""

import argparse
import os
import signal
import socket

from roles.calls import (
    Drop,
    Frames,
    Meanwhile,
    RankError,
    Reply,
    Shutdown,
    Stored,
    call_decoder,
    frame,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    parser.add_argument("--rank", type=int)
    options = parser.parse_args()
    ScriptedRank(options.rank, socket.socket(fileno=options.fd)).serve()


class ScriptedRank:
    def __init__(self, rank: int, channel: socket.socket) -> None:
        self.rank = rank
        self.channel = channel
        self.deaf = False
        self.owed: list[Reply] = []

    def serve(self) -> None:
        frames = Frames()
        while data := self.channel.recv(1 << 16):
            for body in frames.feed(data):
                call = call_decoder.decode(body)
                if isinstance(call, Shutdown):
                    if not self.deaf:
                        return
                    continue
                assert isinstance(call, Drop)
                self.act(call)

    def act(self, call: Drop) -> None:
        what, _, rank = call.request.partition(":")
        mine = rank == str(self.rank)
        for reply in self.owed:
            self.channel.sendall(frame(reply))
        self.owed = []
        if mine and what == "exit":
            os._exit(5)
        if mine and what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mine and what == "garbage":
            self.channel.sendall(b"\xff" * 64)
        if mine and what == "tells":
            for done in (1, 2):
                self.channel.sendall(frame(Meanwhile(call.call, warmed=(done, 2))))
        if mine and what in ("deaf", "stubborn"):
            self.deaf = True
        if mine and what == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reply = self.reply(call, mine and what == "raise")
        if mine and what == "late":
            self.owed.append(reply)
        elif not (mine and what == "hang"):
            self.channel.sendall(frame(reply))

    def reply(self, call: Drop, raises: bool) -> Reply:
        if raises:
            error = RankError("raised", "ValueError", "scripted", "Traceback: scripted")
            return Reply(call.call, False, None, error)
        return Reply(call.call, True, Stored(call.attempt))


if __name__ == "__main__":
    main()
