"""Some samples of a forward, taken out again as they were put together."""

from typing import Any

import pytest
import torch

from roles.split.denoising.batching import Unmergeable, merge
from roles.split.denoising.slicing import samples, sliced
from roles.split.program import TransformerCall


class Model(torch.nn.Module):
    def forward(self, hidden_states: Any, timestep: Any, **more: Any) -> None:
        raise AssertionError("nothing is computed here")


def call(number: int, latents: Any) -> TransformerCall:
    own = torch.full((1, 3), float(number))
    more = {
        "encoder_hidden_states": own,
        "img_ids": torch.arange(6.0).reshape(3, 2),
        "added": {"text_embeds": own + 1, "size": (32, 32)},
        "guidance": None,
        "scale": 3.5,
    }
    return TransformerCall(Model(), "transformer", (latents, torch.tensor([number])), more)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    "latents",
    [
        lambda number: torch.full((1, 4), 10.0 * number),
        lambda number: [torch.full((4, 2), 10.0 * number)],  # a list of samples
    ],
    ids=["tensor", "list"],
)
def test_a_slice_of_what_was_merged_is_what_was_merged(latents: Any) -> None:
    calls = [call(number, latents(number)) for number in range(3)]
    model = calls[0].module
    calls = [TransformerCall(model, each.name, each.args, each.kwargs) for each in calls]
    merged, counts = merge(calls)
    assert (counts, samples(merged)) == ([1, 1, 1], 3)
    for number, whole in enumerate(calls):
        part = sliced(merged, slice(number, number + 1))
        assert part.module is model
        assert same((part.args, dict(part.kwargs)), (whole.args, dict(whole.kwargs)))
    assert samples(sliced(merged, slice(1, 3))) == 2


def test_a_timestep_for_all_samples_stays_whole() -> None:
    both = TransformerCall(Model(), "transformer", (torch.zeros(2, 4), torch.tensor([7])), {})
    part = sliced(both, slice(1, 2))
    assert part.args[0].shape == (1, 4)
    assert part.args[1].tolist() == [7]


def test_what_is_not_understood_is_one_sample_and_cannot_be_sliced() -> None:
    odd = TransformerCall(Model(), "transformer", (torch.zeros(2, 4), torch.zeros(3, 3)), {})
    nothing = TransformerCall(Model(), "transformer", (None, None), {})
    assert samples(nothing) == 1
    with pytest.raises(Unmergeable):
        sliced(odd, slice(0, 1))
