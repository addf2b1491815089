"""The finished files of one request: who owns them gives them back."""

from orchestrator.http.media.reading import Reading
from orchestrator.http.ports import MediaSource
from transfer.messages import Media


class Files:
    """Owns the files of one HTTP request until they were sent or kept, whichever way that ends.

    `release()` gives back what is still owned; calling it again does nothing.
    """

    def __init__(self, source: MediaSource) -> None:
        self.media: list[Media] = []
        self._source = source
        self._owned: list[Media] = []

    def add(self, media: list[Media]) -> None:
        self._owned += media

    def arrange(self, media: list[Media]) -> None:
        """The order in which the client gets them."""
        self.media = media

    def disown(self, media: Media) -> None:
        """Somebody else has taken this file over."""
        self._owned.remove(media)

    async def give_back(self, media: Media) -> None:
        """This one is not needed any more."""
        if media in self._owned:
            self._owned.remove(media)
            await self._source.release(media)

    @property
    def sizes(self) -> list[int]:
        return [media.nbytes for media in self.media]

    def open(self, index: int) -> Reading:
        return self.read(self.media[index])

    def read(self, media: Media, large: bool = False) -> Reading:
        return Reading(self._source.chunks(media, large), media.nbytes)

    async def release(self) -> None:
        while self._owned:
            await self._source.release(self._owned.pop())
