"""Pictures from outside, decoded within bounds."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from transfer.pictures import MOST_BYTES, BadPicture, decode


def saved(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    made = io.BytesIO()
    picture.save(made, format, **options)
    return made.getvalue()


RED = Image.new("RGB", (8, 6), (255, 0, 0))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_comes_as_rgb(format: str) -> None:
    made = decode(saved(RED, format, quality=100) if format != "PNG" else saved(RED))
    assert (made.mode, made.size) == ("RGB", (8, 6))
    assert abs(made.getpixel((3, 3))[0] - 255) < 4  # type: ignore[index,operator]


def test_it_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decode(saved(RED, "JPEG", exif=exif)).size == (6, 8)


def test_what_is_transparent_in_a_mask_is_to_change() -> None:
    mask = Image.new("RGBA", (2, 1), (9, 9, 9, 255))
    mask.putpixel((1, 0), (9, 9, 9, 0))
    made = decode(saved(mask), mask=True)
    assert (made.mode, made.getpixel((0, 0)), made.getpixel((1, 0))) == ("L", 0, 255)


def test_of_a_mask_without_transparency_what_is_white() -> None:
    mask = Image.new("L", (2, 1))
    mask.putpixel((1, 0), 255)
    made = decode(saved(mask), mask=True)
    assert (made.getpixel((0, 0)), made.getpixel((1, 0))) == (0, 255)


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that says that it has side x side pixels, and no data for them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [101, 20_000, 60_000])
def test_a_bomb_is_refused_before_it_goes_off(side: int) -> None:
    with pytest.raises(BadPicture, match="10000 at most"):
        decode(bomb(side), most_pixels=10_000)


def test_of_a_phones_jpeg_with_more_pictures_in_it_the_first_is_taken() -> None:
    data = saved(RED, "MPO", save_all=True, append_images=[RED.rotate(90)])
    assert decode(data).tobytes() == decode(saved(RED, "JPEG")).tobytes()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no picture of"),
        (b"GIF89a and so on", "no picture of"),
        (saved(RED, "GIF"), "no picture of"),
        (saved(RED)[:-30], "cannot be decoded"),
        (saved(RED, "WEBP", save_all=True, append_images=[RED.rotate(90)]), "animated"),
        (bytes(MOST_BYTES + 1), "bytes; at most"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadPicture, match=why):
        decode(data)
