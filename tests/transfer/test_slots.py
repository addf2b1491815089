"""Arithmetic on slots: what fits, what is refused, and that every byte goes where it belongs."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import PayloadTooLarge
from transfer.slots import Copy, Span, copies, spans

GEOMETRY = {"count": 8, "slot_bytes": 100, "offset": 4096}


@pytest.mark.parametrize(
    ("slots", "nbytes", "expected"),
    [
        ([0], 0, []),
        ([], 0, []),
        ([0], 100, [(4096, 100)]),
        ([2, 3], 150, [(4296, 150)]),
        ([2, 4], 150, [(4296, 100), (4496, 50)]),
        ([3, 2], 200, [(4396, 100), (4296, 100)]),
        ([0, 1, 2], 100, [(4096, 100)]),
    ],
)
def test_spans(slots: list[int], nbytes: int, expected: list[tuple[int, int]]) -> None:
    assert spans(slots, nbytes, **GEOMETRY) == [Span(*span) for span in expected]


@pytest.mark.parametrize("slots", [[8], [-1], [0, 0], [1 << 80]])
def test_slots_that_do_not_exist_or_repeat(slots: list[int]) -> None:
    with pytest.raises(ValueError, match="of a pool that has 8"):
        spans(slots, 1, **GEOMETRY)


def test_slots_of_no_size() -> None:
    for slot_bytes in (0, -1):
        with pytest.raises(ValueError, match="of a pool"):
            spans([0], 0, count=1, slot_bytes=slot_bytes, offset=0)


@pytest.mark.parametrize("nbytes", [101, 1 << 80, -1])
def test_a_payload_that_does_not_fit_names_size_and_limit(nbytes: int) -> None:
    with pytest.raises(PayloadTooLarge) as error:
        spans([0], nbytes, **GEOMETRY)
    assert (error.value.nbytes, error.value.limit) == (nbytes, 100)


def test_copies_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        copies([Span(0, 1)], [Span(0, 2)])


def test_copies_are_as_few_as_can_be() -> None:
    assert copies([Span(0, 30)], [Span(5, 10), Span(50, 20)]) == [Copy(0, 5, 10), Copy(10, 50, 20)]


@given(st.data())
def test_every_byte_goes_where_it_belongs(data: st.DataObject) -> None:
    here = data.draw(st.permutations(range(5)))
    there = data.draw(st.permutations(range(4)))
    nbytes = data.draw(st.integers(0, 5 * 13))
    source = spans(here, nbytes, count=5, slot_bytes=13, offset=3)
    target = spans(there, nbytes, count=4, slot_bytes=17, offset=8)
    memory, arrived = bytes(i % 251 for i in range(200)), bytearray(200)
    for copy in copies(source, target):
        piece = memory[copy.source : copy.source + copy.nbytes]
        arrived[copy.target : copy.target + copy.nbytes] = piece
    sent = b"".join(memory[at : at + size] for at, size in source)
    assert b"".join(bytes(arrived[at : at + size]) for at, size in target) == sent
    assert len(sent) == nbytes
    assert list(accumulate(c.nbytes for c in copies(source, target)))[-1:] in ([nbytes], [])
