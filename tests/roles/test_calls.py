"""Frames between a leader and its ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.calls import MAX_TRACEBACK, Drop, Frames, Run, call_decoder, frame, shorten
from transfer.codec import ProtocolError

CALLS = [Drop("a", 1, call=7), Run("step", ((("b", 2),), (("c", 1), ("d", 3)))), Drop("x" * 900, 4)]


@given(st.lists(st.integers(1, 400), max_size=40))
def test_frames_survive_any_cut(sizes: list[int]) -> None:
    stream = b"".join(frame(call) for call in CALLS)
    frames, found, at = Frames(), [], 0
    for size in [*sizes, len(stream)]:
        found += list(frames.feed(stream[at : at + size]))
        at += size
    assert [call_decoder.decode(body) for body in found] == CALLS


def test_a_length_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="a frame of 4294967295 bytes"):
        list(Frames().feed(b"\xff" * 64))


def test_the_end_of_a_long_traceback_is_kept() -> None:
    assert shorten("short") == "short"
    long = shorten("x" * (2 * MAX_TRACEBACK) + "ValueError")
    assert len(long) == MAX_TRACEBACK + 1
    assert long.endswith("ValueError")
