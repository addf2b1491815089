"""A scripted decoder with files that can really be read: what they hold is the seed."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.support.bench import PICTURE
from tests.support.scripted_dealer import Dealer, playing
from transfer.media import MediaServer
from transfer.messages import Media, Work


def pixels(seed: int) -> bytes:
    return f"pixels of seed {seed}".encode()


class PictureDealer(Dealer):
    """`serve` gives out the files; until then, whoever reads them waits. `loses(work)`: the file
    of this work is gone as soon as it is announced. `made`: requests whose files were made.
    `store`: a folder that is the media store, if there is one."""

    def __init__(self, endpoint: str, name: str, **changes: Any) -> None:
        super().__init__(endpoint, name, "decoder", **changes)
        self.media = MediaServer("tcp://127.0.0.1:*")
        self.loses: Callable[[Work], bool] = lambda work: False
        self.made: list[str] = []
        self.store: Path | None = None

    def serve(self) -> None:
        if self.media.task is None:
            self.media.start()

    async def work(self, work: Work) -> None:
        self.picture = self._make(work)
        self.made.append(work.request)
        await super().work(work)

    def _make(self, work: Work) -> Media:
        # an attempt whose number was not on disk when all was killed has it again in the next life
        id, content = f"{work.request}/{len(self.made)}", pixels(work.inputs.seed)
        if self.store is not None:
            (self.store / work.request).write_bytes(content)
            facts = {"id": id, "nbytes": len(content), "store_key": work.request}
            return msgspec.structs.replace(PICTURE, endpoint=None, **facts)
        if not self.loses(work):
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.flush()
                self.media.add(id, os.dup(file.fileno()))
        facts = {"id": id, "nbytes": len(content), "endpoint": self.media.endpoint}
        return msgspec.structs.replace(PICTURE, **facts)


class Trio:
    """One scripted instance of each role."""

    def __init__(self, endpoint: str) -> None:
        self.encoder = Dealer(endpoint, "encoder-0", "encoder")
        self.denoiser = Dealer(endpoint, "denoiser-0", "denoiser")
        self.decoder = PictureDealer(endpoint, "decoder-0")
        self.all = [self.encoder, self.denoiser, self.decoder]


@contextlib.asynccontextmanager
async def trio(endpoint: str, serve: bool = True) -> AsyncIterator[Trio]:
    made = Trio(endpoint)
    if serve:
        made.decoder.serve()
    try:
        async with playing(made.all):
            yield made
    finally:
        await made.decoder.media.close()
