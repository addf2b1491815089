"""Sounds from outside: decoded within bounds, at the rate that is wanted."""

import io

import numpy as np
import pytest

from roles.rank import sounds as writing
from roles.samples import Audio
from tests.support.media_files import RATE, film, frames, tone, wav
from tests.transfer.test_films import LISTS
from transfer import sounds
from transfer.pictures import BadMedia
from transfer.sounds import Length


def flac() -> bytes:
    file = io.BytesIO()
    writing.write_flac(file, Audio(tone(), RATE), {})
    return file.getvalue()


@pytest.mark.parametrize("data", [wav(), flac()])
def test_samples_are_kept(data: bytes) -> None:
    found, rate = sounds.decode(data)
    assert (found.dtype, found.shape, rate) == (np.float32, (2, RATE // 4), RATE)
    assert np.abs(found - tone()).max() < 1 / 16_000
    assert sounds.measure(data) == Length(2, RATE // 4, RATE)


def test_another_rate() -> None:
    found, rate = sounds.decode(wav(), 44_100)
    assert (found.shape, rate) == ((2, 11_025), 44_100)
    # the same tone: as many times through zero
    crossings = [int((np.diff(np.sign(each[0])) != 0).sum()) for each in (found, tone())]
    assert abs(crossings[0] - crossings[1]) <= 2


def test_the_sound_of_a_film() -> None:
    found = sounds.measure(film(frames(), "libx264", "mp4", sound=True))
    assert found.sample_rate == RATE
    assert found.samples >= RATE // 4
    with pytest.raises(BadMedia, match="no sound in it"):
        sounds.measure(film(frames(), "libx264", "mp4"))


@pytest.mark.parametrize("data", [*LISTS, b"", b"text"])
def test_what_is_no_sound_is_not_opened(data: bytes) -> None:
    with pytest.raises(BadMedia, match="no sound of wav, flac"):
        sounds.measure(data)


def test_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MOST_SAMPLES", RATE // 2 - 1)
    with pytest.raises(BadMedia, match="more than 7999 samples"):
        sounds.measure(wav())
    with pytest.raises(BadMedia, match="more than 7999 samples"):
        sounds.decode(wav(tone(channels=1)), 48_000)  # more of them than there were
    monkeypatch.setattr(sounds, "MOST_SECONDS", 0.2)
    with pytest.raises(BadMedia, match=r"longer than 0\.2 seconds"):
        sounds.measure(wav(tone(channels=1)))
    with pytest.raises(BadMedia, match="9 channels; 1 to 8"):
        sounds.measure(wav(tone(channels=9)))


def test_one_without_samples() -> None:
    with pytest.raises(BadMedia):
        sounds.measure(wav(tone(0.0)))
