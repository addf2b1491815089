"""Previews of jobs, as long as there is somebody who may want to see them."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable

from transfer.errors import MediaError
from transfer.messages import Media


class Previews:
    """Which previews there are, and who reads them. They lie where they were made: what is held
    here is a line for each picture that is computed, never a picture.

    `show` one, then `let_go` of it: at once if nobody reads it, else when the last reader is done.
    `release` gives it back where it was made. Lives in the event loop.
    """

    def __init__(
        self,
        chunks: Callable[[Media], AsyncGenerator[bytes, None]],
        release: Callable[[Media], None],
    ) -> None:
        self._chunks = chunks
        self._release = release
        self._shown: dict[str, Media] = {}
        self._readers: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are not given back yet."""
        return len(self._shown.keys() | self._readers.keys())

    def show(self, media: Media) -> None:
        self._shown[media.id] = media

    def let_go(self, media: Media) -> bool:
        """False: it is none of ours."""
        if self._shown.pop(media.id, None) is None:
            return False
        if media.id not in self._readers:
            self._release(media)
        return True

    async def read(self, media: Media) -> AsyncGenerator[bytes, None]:
        """The bytes of a file. Raises `MediaError` if it is gone."""
        if media.id not in self._shown:
            raise MediaError(
                f"the preview {media.id} is gone: there is a later one, or the picture"
            )
        self._readers[media.id] += 1
        chunks = self._chunks(media)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()
            self._leave(media)

    def _leave(self, media: Media) -> None:
        self._readers[media.id] -= 1
        if not self._readers[media.id]:
            del self._readers[media.id]
            if media.id not in self._shown:
                self._release(media)
