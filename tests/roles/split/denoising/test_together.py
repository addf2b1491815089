"""Shared forwards that go wrong: out of memory, a bad value, a model that mixes its samples."""

import logging

import pytest
import torch

from roles.split.denoising.batching import key_of
from roles.split.denoising.together import Together, is_out_of_memory
from roles.split.program import TransformerCall


class Model(torch.nn.Module):
    """Adds one. `room` samples fit into memory; NaN is a bad value; `mixes` takes the first
    sample's timestep for all of them."""

    def __init__(self, room=100, mixes=False, refuses=False):
        super().__init__()
        self.room, self.mixes, self.refuses = room, mixes, refuses
        self.sizes = []

    def forward(self, hidden_states, timestep):
        self.sizes.append(len(hidden_states))
        if len(hidden_states) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if self.refuses and len(hidden_states) > 1:
            raise ValueError("one at a time")
        if hidden_states.isnan().any():
            raise ValueError("a bad value")
        times = timestep[:1] if self.mixes else timestep
        return (hidden_states + times[:, None],)


def calls(model, *values):
    made = []
    for index, value in enumerate(values):
        args = (torch.full((1, 4), float(value)), torch.tensor([float(index)]))
        made.append(TransformerCall(model, "transformer", args, {}))
    return made


def run(together, made):
    return together.run(made, key_of(made[0]))


def values(shared):
    return [r if isinstance(r, Exception) else float(r[0][0, 0]) for r in shared.results]


def test_the_first_of_a_form_is_tried_and_the_next_are_trusted():
    model, together = Model(), Together()
    first = run(together, calls(model, 1, 2, 3))
    assert (values(first), first.size, first.most, first.trial) == ([1, 3, 5], 3, None, True)
    second = run(together, calls(model, 4, 5))
    assert (values(second), second.size, second.most, second.trial) == ([4, 6], 2, None, False)
    assert model.sizes == [3, 1, 2]


def test_a_model_that_mixes_its_samples_is_found_out(caplog):
    model = Model(mixes=True)
    with caplog.at_level(logging.WARNING):
        shared = run(Together(), calls(model, 1, 2, 3))
    assert (values(shared), shared.most) == ([1, 3, 5], 1)
    assert "of Model like these are not shared any more" in caplog.text


@pytest.mark.parametrize(
    ("room", "sizes", "most"), [(4, [8, 4, 4], 4), (3, [8, 4, 2, 2, 4, 2, 2], 2)]
)
def test_out_of_memory_halves_the_batch(room, sizes, most):
    model, together = Model(), Together()
    run(together, calls(model, 0, 0))  # the trial is over
    model.room, model.sizes = room, []
    shared = run(together, calls(model, *range(8)))
    assert values(shared) == [2 * number for number in range(8)]
    assert (model.sizes, shared.size, shared.most) == (sizes, most, most)


def test_no_memory_even_for_one_is_that_request_s_error():
    shared = run(Together(), calls(Model(room=0), 1, 2))
    assert all(is_out_of_memory(result) for result in shared.results)
    assert shared.most == 1


def test_a_bad_value_ends_its_own_request_only():
    model = Model()
    shared = run(Together(), calls(model, 1, float("nan"), 3))
    one, bad, three = values(shared)
    assert (one, three) == (1, 5)
    assert str(bad) == "a bad value"
    assert shared.most is None  # the others may share again
    assert model.sizes == [3, 1, 1, 1]


def test_a_model_that_takes_one_at_a_time_is_asked_once_each():
    shared = run(Together(), calls(Model(refuses=True), 1, 2))
    assert (values(shared), shared.most) == ([1, 3], 1)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("HIP out of memory. Tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory of better days"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, memory):
    assert is_out_of_memory(error) is memory


def test_what_is_known_of_forms_is_bounded(monkeypatch):
    monkeypatch.setattr("roles.split.denoising.together.MAX_PROVEN", 2)
    model, together = Model(), Together()
    for form in ("a", "b", "c", "a"):
        together.run(calls(model, 1, 2), form)
    assert model.sizes == [2, 1] * 4
    assert len(together._proven) == 2
