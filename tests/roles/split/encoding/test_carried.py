"""What a model notes on its modules between two forwards is each request's own."""

from typing import Any

import pytest
import torch

from roles.split.encoding.carried import Carried, Notes


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.delta: Any = None
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, value: int) -> Any:
        if self.delta is None:
            self.delta, self.made = value, True
        self.seen = self.seen + 1
        return self.delta + value, int(self.seen)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, value: int) -> Any:
        return self.inner(value)


def test_each_reads_its_own_and_nobody_finds_any() -> None:
    model = Model()
    notes = Notes(model)
    one, two = Carried(notes), Carried(notes)
    told = []
    for who, value, look in ((one, 1, True), (two, 10, True), (one, 2, False), (two, 20, False)):
        with who.in_place(look):
            told.append(model(value))
        assert model.inner.delta is None
        assert int(model.inner.seen) == 0
        assert "made" not in vars(model.inner)
    assert told == [(2, 1), (20, 1), (3, 2), (30, 2)]


def test_they_are_put_aside_when_the_forward_fails() -> None:
    model = Model()
    own = Carried(Notes(model))
    with own.in_place(look=True):
        model("no number")
    with pytest.raises(TypeError), own.in_place():
        model(1)
    assert model.inner.delta is None


def test_a_model_that_notes_nothing_costs_nothing_to_put_in_place() -> None:
    notes = Notes(torch.nn.Linear(2, 2))
    with Carried(notes).in_place(look=True):
        pass
    assert not notes.known
