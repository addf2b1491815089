"""Sounds into files, 16 bits a sample: WAV with the standard library, FLAC with PyAV."""

import wave
from typing import IO, Any

import av
import numpy as np

from roles.rank.provenance import Making, as_json
from roles.samples import Audio
from transfer.made import AudioMade

FULL_SCALE = 32767  # of 16-bit samples
LAYOUTS = {1: "mono", 2: "stereo"}


class TooManyChannels(Exception):
    """A format that has no layout for so many channels."""


def write_wav(file: IO[bytes], sample: Audio) -> None:
    """PCM, channels interleaved. Says nothing of how it was made: there is no place for it."""
    with wave.open(file, "wb") as wav:
        wav.setnchannels(sample.array.shape[0])
        wav.setsampwidth(2)
        wav.setframerate(sample.sample_rate)
        wav.writeframes(_interleaved(sample).tobytes())


def write_flac(file: IO[bytes], sample: Audio, making: Making) -> None:
    """The very samples of the WAV, about half as large."""
    with av.open(file, "w", format="flac") as container:
        container.metadata["comment"] = as_json(making)
        stream = container.add_stream("flac", rate=sample.sample_rate)
        stream.layout = layout_of(sample)
        frame = av.AudioFrame.from_ndarray(
            _interleaved(sample).reshape(1, -1), format="s16", layout=layout_of(sample)
        )
        frame.sample_rate = sample.sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def layout_of(sample: Audio) -> str:
    """PyAV's name for the channels. Raises `TooManyChannels`."""
    channels = sample.array.shape[0]
    if channels not in LAYOUTS:
        raise TooManyChannels(f"sound of {channels} channels; wav takes any number")
    return LAYOUTS[channels]


def described(sample: Audio) -> AudioMade:
    channels, samples = sample.array.shape
    return AudioMade(sample.sample_rate, channels, samples)


def _interleaved(sample: Audio) -> "np.ndarray[Any, Any]":
    """`[samples, channels]`, int16; what is beyond full scale is clipped."""
    clipped = np.clip(sample.array, -1.0, 1.0)
    return np.ascontiguousarray(np.round(clipped.T * FULL_SCALE).astype("<i2"))
