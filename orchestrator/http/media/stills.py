"""Still pictures of a finished video, made when they are asked for: its first frame, or a sheet of
small ones. Everything here blocks, and belongs into a thread."""

import io
from pathlib import Path
from typing import Any, Literal

import av
from PIL import Image

Variant = Literal["thumbnail", "spritesheet"]

MIMES: dict[Variant, str] = {"thumbnail": "image/webp", "spritesheet": "image/jpeg"}
SIDE = 512  # of a thumbnail, in pixels at most
SPRITE, ROWS, COLUMNS = 160, 5, 5  # a sprite's longer side, in pixels
QUALITY = 85


class NoStill(Exception):
    """The file is no video that can be read."""


def still_of(path: Path, variant: Variant) -> bytes:
    """Raises `NoStill`."""
    try:
        with av.open(str(path)) as container:
            if variant == "thumbnail":
                return _saved(_thumbnail(container), "WEBP")
            return _saved(_sheet(container), "JPEG")
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise NoStill(f"{type(error).__name__}: {error}") from error


def _thumbnail(container: Any) -> Image.Image:
    picture: Image.Image = next(container.decode(video=0)).to_image()
    picture.thumbnail((SIDE, SIDE))
    return picture


def _sheet(container: Any) -> Image.Image:
    """Frames at even distances, row by row; each is made small as it comes, so that memory does
    not grow with the video."""
    stream = container.streams.video[0]
    every = max(1, -(-stream.frames // (ROWS * COLUMNS)))
    sprites: list[Image.Image] = []
    for number, frame in enumerate(container.decode(stream)):
        if number % every == 0 and len(sprites) < ROWS * COLUMNS:
            sprite = frame.to_image()
            sprite.thumbnail((SPRITE, SPRITE))
            sprites.append(sprite)
    width, height = sprites[0].size
    columns = min(COLUMNS, len(sprites))
    sheet = Image.new("RGB", (columns * width, -(-len(sprites) // columns) * height))
    for index, sprite in enumerate(sprites):
        sheet.paste(sprite, (index % columns * width, index // columns * height))
    return sheet


def _saved(picture: Image.Image, format: str) -> bytes:
    made = io.BytesIO()
    picture.convert("RGB").save(made, format, quality=QUALITY)
    return made.getvalue()
