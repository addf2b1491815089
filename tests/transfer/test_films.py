"""Films from outside: decoded within bounds, and nothing but what they say they are."""

import av
import numpy as np
import pytest

from tests.support.media_files import film, frames, wav
from transfer import films
from transfer.films import Bounds, Size
from transfer.pictures import MOST_BYTES, BadMedia


def test_a_lossless_film_keeps_every_pixel() -> None:
    sent = frames()
    found = films.decode(film(sent))
    assert [picture.mode for picture in found] == ["RGB"] * 5
    assert all(np.array_equal(a, b) for a, b in zip(found, sent, strict=True))
    masks = films.decode(film(sent), mask=True)
    assert [(mask.mode, mask.getpixel((0, 0))) for mask in masks][:2] == [("L", 0), ("L", 20)]


@pytest.mark.parametrize(
    ("codec", "format"),
    [("libx264", "mp4"), ("libvpx-vp9", "webm"), ("mpeg4", "matroska"), ("libx265", "mp4")],
)
def test_usual_films(codec: str, format: str) -> None:
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this build of av has no {codec}")
    data = film(frames(), codec, format)
    assert films.measure(data) == Size(32, 16, 5)
    levels = [picture.getpixel((16, 8))[0] for picture in films.decode(data)]  # type: ignore[index]
    assert np.allclose(levels, [0, 20, 40, 60, 80], atol=12)


def test_its_sound_is_left() -> None:
    assert len(films.decode(film(frames(), "libx264", "mp4", sound=True))) == 5


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        (Bounds(pixels=511), "32x16 pixels; 511 at most"),
        (Bounds(frames=4), "more than 4 frames"),
        (Bounds(in_all=2047), "more than 2047 pixels in all"),
    ],
)
def test_beyond_a_bound(bounds: Bounds, why: str) -> None:
    data = film(frames())
    for read in (films.measure, lambda data, bounds: films.decode(data, bounds=bounds)):
        with pytest.raises(BadMedia, match=why):
            read(data, bounds)
    assert films.measure(data, Bounds(512, 2560, 5)).frames == 5


def test_a_small_file_that_becomes_a_large_film_is_refused_before_it_is_decoded() -> None:
    """A bomb: its header says how large it is; no frame of that size is made."""
    data = film(frames(1, (4096, 2048)), "libx264", "mp4", options={"preset": "ultrafast"})
    assert len(data) < 4096 * 2048 // 100
    with pytest.raises(BadMedia, match="4096x2048 pixels"):
        films.measure(data, Bounds(pixels=1 << 20))


LISTS = [
    b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    b"ffconcat version 1.0\nfile /etc/passwd\n",
    b"[playlist]\nFile1=/etc/passwd\n",
    b"<?xml version='1.0'?><MPD><BaseURL>/etc/passwd</BaseURL></MPD>",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n",
]


@pytest.mark.parametrize("data", [*LISTS, b"", b"text", wav()])
def test_what_is_no_film_is_not_opened(data: bytes) -> None:
    """Some formats of the library are lists of files and addresses, which it would open."""
    with pytest.raises(BadMedia, match="no film of mp4, matroska"):
        films.measure(data)


@pytest.mark.parametrize("length", [12, 60, 200])
def test_what_is_cut_off(length: int) -> None:
    with pytest.raises(BadMedia):
        films.measure(film(frames(), "libx264", "mp4")[:length])


def test_a_codec_that_is_not_taken() -> None:
    with pytest.raises(BadMedia, match="codec is prores"):
        films.measure(film(frames(), "prores_ks", "mov", pix_fmt="yuv422p10le"))


def test_too_many_bytes() -> None:
    with pytest.raises(BadMedia, match=f"at most {MOST_BYTES}"):
        films.measure(bytes(MOST_BYTES + 1))
