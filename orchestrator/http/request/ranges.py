"""What is known of the ranges of pipelines' arguments, by their names: diffusers declares none.

The defaults of the pipelines lie inside; where one does not, its pipeline means something else by
the name, and nothing is known (`range_of`).
"""

from typing import NamedTuple

from transfer.messages import Scalar

SAFE = 2**53 - 1  # whole numbers that every reader of JSON keeps as they are


class Range(NamedTuple):
    """Both ends included; None: no end."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return "" if self.high is None else f"at most {self.high:.17g}"
        if self.high is None:
            return f"at least {self.low:.17g}"
        return f"from {self.low:.17g} to {self.high:.17g}"


_SHARE = Range(0, 1)
_STEPS, _FRAMES, _SECONDS = Range(1, 1000), Range(1, 1024), Range(0, 600)
_SIDE, _TOKENS, _COUNT = Range(0, 4096), Range(1, 8192), Range(1, 1024)
_RANGES = {
    "clip_skip": Range(0, 100),  # layers of a text encoder
    "control_guidance_end": _SHARE,  # of the steps, like the next ones
    "control_guidance_start": _SHARE,
    "denoising_end": _SHARE,
    "denoising_start": _SHARE,
    "ensemble_size": Range(1, 100),
    "eta": _SHARE,  # of the sampler's noise
    "frames": _FRAMES,
    "gen_length": _TOKENS,
    "guidance_rescale": _SHARE,
    "strength": _SHARE,
    "video_length": _FRAMES,
}
_BY_ENDING = (
    ("num_inference_steps", _STEPS),
    ("inference_steps", _STEPS),
    ("num_frames", Range(0, 1024)),
    ("_in_s", _SECONDS),
    ("seconds", _SECONDS),
    ("duration", _SECONDS),
    ("duration_s", _SECONDS),
    ("_height", _SIDE),
    ("_width", _SIDE),
    ("resolution", _SIDE),
    ("sequence_length", _TOKENS),
    ("max_new_tokens", _TOKENS),
    ("text_length", _TOKENS),
    ("lyric_length", _TOKENS),
    ("batch_size", _COUNT),
    ("chunk_size", _COUNT),
)


def range_of(name: str, default: Scalar = None) -> Range:
    """Of the numbers that an argument of this name takes, alone or in a list."""
    found = _RANGES.get(name)
    if found is None:
        found = next((each for ending, each in _BY_ENDING if name.endswith(ending)), Range())
    told = isinstance(default, int | float) and not isinstance(default, bool)
    return found if not told or default in found else Range()
