"""What ranks write down for each other: as in a store of torch, for one life."""

from roles.nodes import book
from roles.nodes.book import Book
from roles.nodes.messages import (
    BookAdd,
    BookCount,
    BookDelete,
    BookGet,
    BookSet,
    BookSwap,
    Looked,
)


def test_it_gives_what_was_written_and_nothing_else() -> None:
    made = Book(7)
    assert made.answer(BookGet(7, ["a"])) == Looked()
    assert made.answer(BookSet(7, "a", b"1")) == Looked()
    assert made.answer(BookGet(7, ["a", "b"])) == Looked({"a": b"1"})
    assert made.answer(BookCount(7)).number == 1
    assert [made.answer(BookDelete(7, "a")).number for _ in range(2)] == [1, 0]
    assert made.answer(BookCount(7)).number == 0


def test_it_counts() -> None:
    made = Book(7)
    assert [made.answer(BookAdd(7, "n", amount)).number for amount in (1, 2, 0)] == [1, 3, 3]
    assert made.answer(BookGet(7, ["n"])) == Looked({"n": b"3"})


def test_a_swap_happens_only_from_what_is_expected() -> None:
    """As TCPStore's compare_set."""
    made = Book(7)
    assert made.answer(BookSwap(7, "k", b"old", b"new")).values == {"k": b"old"}
    assert made.answer(BookCount(7)).number == 0
    assert made.answer(BookSwap(7, "k", b"", b"old")).values == {"k": b"old"}
    assert made.answer(BookSwap(7, "k", b"other", b"new")).values == {"k": b"old"}
    assert made.answer(BookSwap(7, "k", b"old", b"new")).values == {"k": b"new"}


def test_who_comes_of_an_earlier_life_finds_nobody() -> None:
    made = Book(7)
    made.answer(BookSet(7, "a", b"1"))
    made.begin(8)
    for ask in (BookSet(7, "a", b"2"), BookGet(7, ["a"]), BookAdd(7, "a", 1), BookCount(7)):
        assert made.answer(ask) == Looked(closed=True)
    assert made.answer(BookCount(8)).number == 0


def test_it_is_bounded() -> None:
    made = Book(7)
    assert not made.answer(BookSet(7, "a", bytes(book.MAX_BYTES - 1))).closed
    assert made.answer(BookSet(7, "b", b"1")).closed
    assert not made.answer(BookSet(7, "a", b"")).closed
    assert not made.answer(BookSet(7, "b", b"1")).closed
    made.answer(BookDelete(7, "b"))
    assert not made.answer(BookSet(7, "a", bytes(book.MAX_BYTES - 1))).closed
