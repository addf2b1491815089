"""A finished file on its way through this process: one chunk at a time, its length checked."""

from collections.abc import AsyncGenerator

HOP_BYTES = 1 << 20  # chunks are joined up to this before a thread writes them


class WrongLength(Exception):
    """A file did not have the length that was announced: the reply cannot be completed."""


class Reading:
    """Pulls the chunks of one file of `nbytes`; the next one is asked for when it is wanted.

    `prime()` reads the first chunk ahead, so that a file that is not there is an error before the
    reply has begun, when it can still be told. Whoever made the Reading closes it.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], nbytes: int) -> None:
        self.nbytes = nbytes
        self._chunks = chunks
        self._first = b""
        self._seen = 0

    async def prime(self) -> None:
        self._first = await self._pull()

    @property
    def complete(self) -> bool:
        """Every byte has been read."""
        return self._seen == self.nbytes

    async def next(self) -> bytes:
        """The next chunk; empty at the end. Raises `WrongLength` if too much or too little came."""
        if self._first:
            chunk, self._first = self._first, b""
            return chunk
        return await self._pull()

    async def several(self) -> list[bytes]:
        """The next chunks, for one call of a thread; none at the end. Raises `WrongLength`."""
        chunks: list[bytes] = []
        nbytes = 0
        while nbytes < HOP_BYTES and (chunk := await self.next()):
            chunks.append(chunk)
            nbytes += len(chunk)
        return chunks

    async def close(self) -> None:
        await self._chunks.aclose()

    async def _pull(self) -> bytes:
        chunk = b""
        async for chunk in self._chunks:
            if chunk:
                break
        self._seen += len(chunk)
        if self._seen > self.nbytes or (not chunk and self._seen < self.nbytes):
            raise WrongLength(f"{self._seen} bytes of a file of {self.nbytes}")
        return chunk
