"""The media channel: a finished file, read piece by piece."""

from transfer.codec import Decoder, Message


class MediaRead(Message, frozen=True, tag="media_read"):
    """Asks an instance's endpoint for a piece of a finished file (at most 1 MiB)."""

    id: str
    offset: int
    length: int


class MediaRelease(Message, frozen=True, tag="media_release"):
    """The file is no longer needed."""

    id: str


class MediaChunk(Message, frozen=True, tag="media_chunk"):
    id: str
    offset: int
    data: bytes


class MediaGone(Message, frozen=True, tag="media_gone"):
    id: str
    reason: str


ToMedia = MediaRead | MediaRelease
FromMedia = MediaChunk | MediaGone

to_media = Decoder(ToMedia)
from_media = Decoder(FromMedia)
