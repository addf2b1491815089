"""What --parallel says, for so many ranks."""

import re

import pytest

from roles.parallel import Parallel, divide, of_roles

WHOLE = "guidance=2,ulysses=2,tiles=4"


@pytest.mark.parametrize(
    ("text", "ranks", "found", "written", "context"),
    [
        (None, 1, Parallel(), "guidance=1", None),
        (None, 4, Parallel(guidance=4), "guidance=4", None),
        ("tensor", 2, Parallel(1, tensor=2), "tensor=2", "tensor=2"),
        ("guidance,tensor=2", 4, Parallel(2, tensor=2), "guidance=2,tensor=2", "tensor=2"),
        ("tiles", 4, Parallel(4, tiles=4), "guidance=4,tiles=4", None),
        ("tiles=4,guidance=2,ulysses", 4, Parallel(2, 2, tiles=4), WHOLE, "ulysses=2"),
        ("tiles=1", 2, Parallel(2), "guidance=2", None),
        ("guidance", 2, Parallel(guidance=2), "guidance=2", None),
        ("ulysses", 2, Parallel(ulysses=2), "ulysses=2", "ulysses=2"),
        ("guidance=2,ulysses", 8, Parallel(2, 4), "guidance=2,ulysses=4", "ulysses=4"),
        ("ring=2, ulysses=2", 4, Parallel(1, 2, 2), "ulysses=2,ring=2", "ulysses=2,ring=2"),
        ("guidance,ulysses=2", 2, Parallel(1, 2), "ulysses=2", "ulysses=2"),
    ],
)
def test_the_modes_multiply_to_the_ranks(
    text: str | None, ranks: int, found: Parallel, written: str, context: str | None
) -> None:
    parallel = divide(text, ranks)
    assert parallel == found
    assert (str(parallel), parallel.context, parallel.ranks) == (written, context, ranks)
    assert divide(str(parallel), ranks) == parallel


@pytest.mark.parametrize(
    ("text", "ranks", "sentence"),
    [
        ("ulysses=2", 1, "--parallel ulysses=2 is for 2 ranks, and --ranks is 1"),
        ("guidance,ulysses=2", 3, "is for 2 ranks or a multiple, and --ranks is 3"),
        ("guidance=2", 4, "--parallel guidance=2 is for 2 ranks, and --ranks is 4"),
        ("pipeline=2", 2, "'pipeline' is no mode; write guidance[=N], ulysses[=N], ring[=N]"),
        ("tensor=2", 3, "--parallel tensor=2 is for 2 ranks, and --ranks is 3"),
        ("tensor,ulysses=2", 4, "divides weights (tensor) or tokens (ulysses), not both"),
        ("tiles=2", 4, "--parallel tiles=2: tiles=2 is for 2 ranks, not 4"),
        ("tiles,tiles", 4, "names tiles twice"),
        ("guidance,ring", 2, "only one mode may stand without a number"),
        ("ring=2,ring=2", 4, "names ring twice"),
        ("ring=two", 2, "'two' is no number of ranks for ring"),
        ("ring=0", 2, "'0' is no number of ranks for ring"),
        ("ring=", 2, "'' is no number of ranks for ring"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(text: str, ranks: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        divide(text, ranks)


@pytest.mark.parametrize(
    ("text", "denoiser", "decoder", "both"),
    [
        (None, None, None, None),
        ("guidance=2", "guidance=2", None, "guidance=2"),
        ("tiles", None, "tiles", "tiles"),
        ("tiles=4, ulysses", "ulysses", "tiles=4", "ulysses,tiles=4"),
    ],
)
def test_each_role_takes_what_concerns_it(
    text: str | None, denoiser: str | None, decoder: str | None, both: str | None
) -> None:
    assert of_roles(text, True, False) == denoiser
    assert of_roles(text, False, True) == decoder
    assert of_roles(text, True, True) == both
    assert of_roles(text, False, False) is None
