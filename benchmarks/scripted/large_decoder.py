"""A trio whose decoder has one large file: python -m benchmarks.scripted.large_decoder CONTROL WAY

An encoder, a denoiser and a decoder that compute nothing. The file of a request with the seed 0 is
LARGE_BYTES long, that of any other a few bytes; both lie with the media server and the gallery of a
real leader. WAY "local": the front door is told all that a leader tells; "channel": as if it stood
on another host. Ends with its standard input.
"""

import asyncio
import json
import os
import sys
import tempfile
from typing import IO

import msgspec
import uvloop

from benchmarks.scripted.layers import follow_input
from roles.calls import MediaFile
from roles.leader.gallery import Gallery
from tests.support.scripted_dealer import Dealer, playing
from transfer.made import ImageMade
from transfer.media import MediaServer
from transfer.messages import Media, Work

LARGE_SEED = 0
LARGE_BYTES = 1_300_000_000
SMALL = b"\x89PNG" + bytes(66)
BLOCK_BYTES = 1 << 20


class LargeDecoder(Dealer):
    def __init__(self, endpoint: str, gallery: Gallery, large: int, small: int, way: str) -> None:
        super().__init__(endpoint, "decoder-0", "decoder", capacity=16, slots=40)
        self._gallery, self._large, self._small, self._way = gallery, large, small, way

    async def work(self, work: Work) -> None:
        fd = self._large if work.inputs.seed == LARGE_SEED else self._small
        file = MediaFile(fd, ImageMade(8, 8), "image/png", os.fstat(fd).st_size)
        self.picture = self._told(*await self._gallery.publish(os.getpid(), [file]))
        await super().work(work)
        self.heard.clear()  # an endless list of work done

    def _told(self, media: Media) -> Media:
        return media if self._way == "local" else msgspec.structs.replace(media, local=None)


def written(nbytes: int) -> IO[bytes]:
    """Content in which no place is like another."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
    block = os.urandom(BLOCK_BYTES - 8)
    for at in range(0, nbytes, BLOCK_BYTES):
        file.write((at.to_bytes(8, "big") + block)[: nbytes - at])
    file.flush()
    return file


async def run(control: str, way: str) -> None:
    large, small = written(LARGE_BYTES), tempfile.TemporaryFile()  # noqa: SIM115
    small.write(SMALL)
    small.flush()
    async with MediaServer("tcp://127.0.0.1:*") as media:
        gallery = Gallery(media, media.endpoint, None)
        decoder = LargeDecoder(control, gallery, large.fileno(), small.fileno(), way)
        makers = [Dealer(control, f"{r}-0", r, capacity=16, slots=40) for r in OTHERS]
        async with playing([*makers, decoder]):
            print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
            await asyncio.Event().wait()


OTHERS = ("encoder", "denoiser")

if __name__ == "__main__":
    follow_input()
    uvloop.run(run(*sys.argv[1:]))
