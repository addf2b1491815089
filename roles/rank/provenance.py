"""How a media file was made, written into the file: prompt, seed, model and the like.

| format | where | as |
|---|---|---|
| png | iTXt chunks | one for each name |
| jpeg, webp | EXIF, UserComment | one JSON object |
| mp4 | the container's comment | one JSON object |
"""

import json
import struct
from collections.abc import Mapping

from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo

from transfer.messages import Scalar

Making = Mapping[str, Scalar | list[Scalar | list[Scalar]]]

MOST_EXIF_BYTES = 60_000  # a JPEG has room for 65,533 in all
UNICODE = b"UNICODE\0"  # the character code of a UserComment in UTF-16
JPEG_HEADER = b"Exif\0\0"  # what a JPEG has before the block

_ASCII, _LONG, _UNDEFINED = 2, 4, 7  # types of TIFF's
_HEADER = 8
_SOFTWARE = b"Triptych\0"
_PADDED = 10  # offsets are even


def png_chunks(making: Making) -> PngInfo:
    chunks = PngInfo()
    for name, value in making.items():
        text = _short(value, None)
        chunks.add_itxt(name, text if isinstance(text, str) else json.dumps(text))
    return chunks


def exif(making: Making) -> bytes:
    """An EXIF block, as a WebP has it; texts longer than it has room for end in an ellipsis."""
    limit = MOST_EXIF_BYTES
    while len(comment := UNICODE + as_json(making, limit).encode("utf-16-be")) > MOST_EXIF_BYTES:
        limit //= 2
    # a TIFF file with two directories, each followed by what does not fit into its entries
    software = _SOFTWARE.ljust(_PADDED, b"\0")
    second_at = _HEADER + _directory_size(2) + _PADDED
    first = _directory(
        (Base.Software, _ASCII, len(_SOFTWARE), second_at - _PADDED),
        (Base.ExifOffset, _LONG, 1, second_at),
    )
    comment_at = second_at + _directory_size(1)
    second = _directory((Base.UserComment, _UNDEFINED, len(comment), comment_at))
    return struct.pack(">2sHI", b"MM", 42, _HEADER) + first + software + second + comment


def _directory(*entries: tuple[int, int, int, int]) -> bytes:
    """Entries are (tag, type, count, the value or where it is)."""
    packed = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return struct.pack(">H", len(entries)) + packed + struct.pack(">I", 0)


def _directory_size(entries: int) -> int:
    return 2 + 12 * entries + 4


def as_json(making: Making, limit: int | None = None) -> str:
    """One JSON object; no text in it is longer than `limit` characters."""
    return json.dumps(
        {name: _short(value, limit) for name, value in making.items()}, ensure_ascii=False
    )


def _short(value: object, limit: int | None) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    return text if limit is None or len(text) <= limit else text[:limit] + "…"
