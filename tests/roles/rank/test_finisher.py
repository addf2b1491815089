"""Files in the making: each request's are collected or dropped, whatever comes first."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import pytest
from PIL import Image as Pillow

from roles.rank.finisher import Finisher, Pending
from roles.rank.media import Encoded, encode
from roles.samples import Image
from tests.support.descriptors import held_open
from transfer.messages import Output

DEADLINE_S = 30.0


class Maker:
    """Makes files when it is let `go`; `began` is set when it has begun."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def make(self) -> list[Encoded]:
        self.began.set()
        assert self.go.wait(DEADLINE_S)
        return [encode(Image(Pillow.new("RGB", (4, 4))), Output(), {})]


@pytest.fixture
def finisher() -> Iterator[Finisher]:
    with contextlib.closing(Finisher(1)) as made:
        yield made


def collected(finisher: Finisher, name: str) -> "Future[Pending]":
    told: Future[Pending] = Future()
    finisher.collect((name, 1), told.set_result)
    return told


def test_files_are_told_when_they_are_there(finisher: Finisher) -> None:
    maker = Maker()
    finisher.begin(("a", 1), maker.make)
    told = collected(finisher, "a")
    assert not told.done()
    maker.go.set()
    finished = told.result(DEADLINE_S).result()
    assert finished.seconds > 0
    (file,) = finished.files
    os.fstat(file.facts.fd)
    finisher.drop(("a", 1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.facts.fd)


def test_files_that_are_there_are_told_at_once(finisher: Finisher) -> None:
    maker, told = Maker(), threading.current_thread()
    maker.go.set()
    finisher.begin(("a", 1), maker.make)
    collected(finisher, "a").result(DEADLINE_S)
    by: list[threading.Thread] = []
    finisher.collect(("a", 1), lambda _: by.append(threading.current_thread()))
    assert by == [told]


def test_one_after_the_other(finisher: Finisher) -> None:
    first, second = Maker(), Maker()
    finisher.begin(("a", 1), first.make)
    finisher.begin(("b", 1), second.make)
    assert first.began.wait(DEADLINE_S)
    second.go.set()
    last = collected(finisher, "b")
    assert not second.began.is_set()
    first.go.set()
    last.result(DEADLINE_S)


def test_what_is_dropped_while_it_is_made_is_closed_by_itself(finisher: Finisher) -> None:
    before, maker = held_open(), Maker()
    finisher.begin(("a", 1), maker.make)
    assert maker.began.wait(DEADLINE_S)
    told = collected(finisher, "a")
    finisher.drop(("a", 1))
    finisher.drop(("a", 1))
    maker.go.set()
    told.result(DEADLINE_S)  # whoever waits is answered all the same
    finisher.close()
    assert held_open() <= before


def test_what_is_dropped_before_it_is_begun_is_never_made(finisher: Finisher) -> None:
    first, second = Maker(), Maker()
    finisher.begin(("a", 1), first.make)
    finisher.begin(("b", 1), second.make)
    told = collected(finisher, "b")
    finisher.drop(("b", 1))
    assert told.result(DEADLINE_S).cancelled()
    first.go.set()
    finisher.close()
    assert not second.began.is_set()


def test_an_error_is_told(finisher: Finisher) -> None:
    finisher.begin(("a", 1), partial(int, "no number"))  # type: ignore[arg-type]
    assert isinstance(collected(finisher, "a").result(DEADLINE_S).exception(), ValueError)
    finisher.drop(("a", 1))


def test_nothing_to_drop_is_fine(finisher: Finisher) -> None:
    finisher.drop(("never", 1))
