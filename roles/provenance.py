"""How a media file was made, written into the file: prompt, seed, model and the like.

| format | where | as |
|---|---|---|
| png | iTXt chunks | one for each name |
| jpeg, webp | EXIF, UserComment | one JSON object |
| mp4 | the container's comment | one JSON object |
"""

import json
from collections.abc import Mapping

from PIL.ExifTags import IFD, Base
from PIL.Image import Exif
from PIL.PngImagePlugin import PngInfo

from transfer.messages import Scalar

Making = Mapping[str, Scalar | list[Scalar | list[Scalar]]]

MOST_EXIF_BYTES = 60_000  # a JPEG has room for 65,533 in all
UNICODE = b"UNICODE\0"  # the character code of a UserComment in UTF-16


def png_chunks(making: Making) -> PngInfo:
    chunks = PngInfo()
    for name, value in making.items():
        text = _short(value, None)
        chunks.add_itxt(name, text if isinstance(text, str) else json.dumps(text))
    return chunks


def exif(making: Making) -> bytes:
    """An EXIF block; texts that are longer than it has room for end in an ellipsis."""
    limit = MOST_EXIF_BYTES
    while len(comment := UNICODE + as_json(making, limit).encode("utf-16-le")) > MOST_EXIF_BYTES:
        limit //= 2
    block = Exif()
    block[Base.Software] = "Triptych"
    block.get_ifd(IFD.Exif)[Base.UserComment] = comment
    return block.tobytes()


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
