"""A decoder's pipeline that calls its transformer: what it gets has shapes and no data."""

import pytest
import torch

from roles.split.forward import Outputs
from roles.split.skipping import forward


def test_zeros_of_the_latents_where_a_forward_gives_one_tensor() -> None:
    given = forward(None)(hidden_states=torch.ones(2, 3), return_dict=False)[0]
    assert torch.equal(given, torch.zeros(2, 3))


def test_the_forms_of_forwards_that_give_more_in_their_order() -> None:
    outputs = Outputs()
    outputs.note(0, (torch.ones(2), [{"keys": torch.ones(4)}]))
    outputs.note(1, (None, [{"keys": torch.ones(6)}]))
    assert outputs.manifold
    transformer = forward(outputs.tree())
    latents, cache = transformer(torch.ones(2))
    assert latents.shape == (2,)
    assert cache[0]["keys"].shape == (4,)
    assert transformer()[1][0]["keys"].shape == (6,)
    with pytest.raises(LookupError):
        transformer()


def test_single_tensors_need_no_forms() -> None:
    outputs = Outputs()
    outputs.note(0, (torch.ones(2),))
    outputs.note(1, torch.ones(2))
    assert not outputs.manifold
