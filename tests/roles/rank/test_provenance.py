"""How a file was made, read back with libraries that did not write it."""

import contextlib
import io
import json
import os
import struct
import zlib
from dataclasses import replace
from typing import Any

import exifread
import mutagen.mp4
import pytest
from PIL import Image as Pillow
from PIL.ExifTags import IFD, Base

from roles.rank.media import encode
from roles.rank.provenance import MOST_EXIF_BYTES, exif
from roles.samples import Image, Sample, Video
from transfer.messages import Output

MAKING: dict[str, Any] = {
    "prompt": "zwei grüne Sterne, 两颗",
    "guidance_scale": 4.5,
    "sigmas": [1.0, 0.5],
    "steps": 20,
    "seed": 7,
    "model": "demo",
}
PICTURE = Image(Pillow.new("RGB", (16, 16), "red"))
FILM = Video([Pillow.new("RGB", (16, 16), color) for color in ("red", "green", "blue")], 8.0)


def file_of(sample: Sample, format: Any, making: dict[str, Any] = MAKING) -> bytes:
    with contextlib.closing(encode(sample, Output(format), making)) as made:
        return os.pread(made.facts.fd, made.facts.nbytes, 0)


def chunk_of(riff: bytes, wanted: bytes) -> bytes:
    """One chunk of a RIFF file, which WebP is."""
    at = 12
    while at < len(riff):
        name, size = struct.unpack_from("<4sI", riff, at)
        if name == wanted:
            return riff[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise AssertionError(f"there is no {wanted!r}")


def texts_of(png: bytes) -> dict[str, str]:
    """The iTXt chunks of a PNG."""
    found, at = {}, 8
    while at < len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + size]
        assert zlib.crc32(name + data) == struct.unpack_from(">I", png, at + 8 + size)[0]
        if name == b"iTXt":
            key, _, rest = data.partition(b"\0")
            found[key.decode()] = rest[2:].split(b"\0", 2)[2].decode()
        at += 12 + size
    return found


def comment_of(block: bytes) -> dict[str, Any]:
    tags = exifread.process_file(io.BytesIO(block))
    assert str(tags["Image Software"]) == "Triptych"
    comment = bytes(tags["EXIF UserComment"].values)
    assert comment.startswith(b"UNICODE\0")
    return json.loads(comment[8:].decode("utf-16-be"))  # type: ignore[no-any-return]


def test_a_png_tells_it_in_chunks() -> None:
    told = texts_of(file_of(PICTURE, "png"))
    assert told["prompt"] == MAKING["prompt"]
    assert {name: json.loads(told[name]) for name in MAKING.keys() - {"prompt", "model"}} == {
        name: MAKING[name] for name in MAKING.keys() - {"prompt", "model"}
    }


def test_a_jpeg_tells_it_in_its_exif() -> None:
    assert comment_of(file_of(PICTURE, "jpeg")) == MAKING


@pytest.mark.parametrize("sample", [PICTURE, FILM], ids=["picture", "animation"])
def test_a_webp_tells_it_in_its_exif(sample: Sample) -> None:
    assert comment_of(chunk_of(file_of(sample, "webp"), b"EXIF")) == MAKING


def test_an_mp4_tells_it_in_its_comment() -> None:
    tags = mutagen.mp4.MP4(io.BytesIO(file_of(FILM, "mp4"))).tags
    assert tags is not None
    assert json.loads(tags["©cmt"][0]) == MAKING


def test_a_long_text_is_cut_where_there_is_no_room() -> None:
    long = {**MAKING, "prompt": "ä" * 100_000, "negative_prompt": "b" * 100_000}
    assert len(exif(long)) < MOST_EXIF_BYTES + 1000
    picture = Pillow.open(io.BytesIO(file_of(PICTURE, "jpeg", long)))
    # exifread leaves out what is longer than a thousand bytes
    comment = picture.getexif().get_ifd(IFD.Exif)[Base.UserComment]
    told = json.loads(comment.removeprefix(b"UNICODE\0").decode("utf-16-be"))
    assert told["seed"] == 7
    for name, letter in (("prompt", "ä"), ("negative_prompt", "b")):
        assert told[name].endswith("…")
        assert set(told[name][:-1]) == {letter}
        assert len(told[name]) > 5_000
    assert len(texts_of(file_of(PICTURE, "png", long))["prompt"]) == 100_000


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_half_a_surrogate_pair_is_no_reason_to_fail(format: str) -> None:
    assert file_of(PICTURE, format, {"prompt": "a \udcff b"})


@pytest.mark.parametrize("sample", [PICTURE, FILM], ids=["png", "mp4"])
def test_decoding_in_tiles_is_told(sample: Any) -> None:
    tiled = replace(sample, decoded_in="tiles")
    with contextlib.closing(encode(tiled, Output(), MAKING)) as made:
        assert made.facts.decoded_in == "tiles"
        data = os.pread(made.facts.fd, made.facts.nbytes, 0)
    assert b"decoded_in" in data
    assert b"decoded_in" not in file_of(sample, "png")
