"""Files of films and sounds from outside, opened as what their first bytes say that they are.

Nothing is left to be guessed by the library: some of its formats are lists of names, which it would
follow to other files and addresses.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transfer.pictures import MOST_BYTES, BadMedia

if TYPE_CHECKING:
    from av.container import InputContainer

_STARTS = (
    (0, b"\x1aE\xdf\xa3", "matroska"),  # WebM too
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (4, b"ftyp", "mp4"),
    (8, b"WAVE", "wav"),
)


def format_of(data: bytes) -> str | None:
    """The library's name for it."""
    for offset, start, name in _STARTS:
        if data.startswith(start, offset):
            return name
    return None


@contextlib.contextmanager
def opened(data: bytes, formats: tuple[str, ...], what: str) -> "Iterator[InputContainer]":
    """Raises `BadMedia`, also for whatever the library raises while it is read."""
    import av

    if len(data) > MOST_BYTES:
        raise BadMedia(f"{len(data)} bytes; at most {MOST_BYTES} are taken")
    format = format_of(data)
    if format not in formats:
        raise BadMedia(f"it is no {what} of {', '.join(formats)}")
    try:
        options = {"protocol_whitelist": "none"}
        with av.open(io.BytesIO(data), "r", format=format, options=options) as container:
            yield container
    except BadMedia:
        raise
    except Exception as error:  # decoders raise whatever they like at bytes that are none
        raise BadMedia(f"it cannot be decoded ({type(error).__name__}: {error})") from error


def check_codec(stream: Any, codecs: frozenset[str]) -> None:
    codec = stream.codec_context.codec.canonical_name
    if codec not in codecs:
        raise BadMedia(f"its codec is {codec}; {', '.join(sorted(codecs))} are taken")
