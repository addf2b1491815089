"""The words for what makes a model faster."""

import pytest

from transfer.messages import Speed, StepCache
from transfer.speed import (
    chosen,
    complete,
    is_tuned,
    parse_step_cache,
    switches,
    told,
    write_step_cache,
)

FIRST_BLOCK = StepCache("first_block", threshold=0.05)


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        ("none", StepCache("none")),
        ("first_block", FIRST_BLOCK),
        (" first_block:0.2 ", StepCache("first_block", threshold=0.2)),
        ("taylorseer", StepCache("taylorseer", interval=5)),
        ("pyramid:3", StepCache("pyramid", interval=3)),
    ],
)
def test_a_flag_is_read_and_written(text: str, cache: StepCache) -> None:
    assert parse_step_cache(text) == cache
    assert parse_step_cache(write_step_cache(cache)) == cache


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "'fast' is no step cache; write none, first_block"),
        ("first_block:often", "'often' is no number for first_block"),
        ("first_block:0", "above 0"),
        ("first_block:1.5", "at most 1"),
        ("first_block:nan", "above 0"),
        ("pyramid:2.5", "'2.5' is no number"),
        ("pyramid:1", "2 to 100"),
        ("taylorseer:101", "2 to 100"),
        ("none:1", "no threshold"),
    ],
)
def test_a_bad_flag_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_step_cache(text)


def test_what_a_type_does_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match="first_block has no interval"):
        complete(StepCache("first_block", interval=3))
    with pytest.raises(ValueError, match="pyramid has no threshold"):
        complete(StepCache("pyramid", threshold=0.1))


def test_a_request_wins_over_its_denoiser() -> None:
    speed = Speed(step_cache=FIRST_BLOCK)
    pyramid = StepCache("pyramid")
    assert chosen(speed, None) == FIRST_BLOCK
    assert chosen(speed, StepCache("none")) is None
    assert chosen(speed, pyramid) == StepCache("pyramid", interval=2)
    assert chosen(None, pyramid) == StepCache("pyramid", interval=2)
    assert chosen(None, None) is None


def test_only_what_is_on_is_told() -> None:
    assert told(None) is None
    assert told(Speed(dtype="bfloat16")) is None
    speed = Speed("auto", True, "flex", "int8", FIRST_BLOCK)
    assert switches(speed, StepCache("none")) == [
        "compile",
        "attention-backend=flex",
        "quantize=int8",
    ]
    assert (
        told(speed) == "compile, attention-backend=flex, quantize=int8, step-cache=first_block:0.05"
    )


def test_a_step_cache_alone_needs_no_warm_up() -> None:
    assert not is_tuned(None)
    assert not is_tuned(Speed(step_cache=FIRST_BLOCK))
    assert is_tuned(Speed(compile=True))
    assert is_tuned(Speed(quantize="int8"))
