"""Models without weights, also of constructors that compute."""

import numpy as np
import torch

from roles.split.skeleton import build


class _Filtering(torch.nn.Module):
    """Computes with its parameters, and with numbers from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        bank = torch.from_numpy(np.arange(3, dtype=np.float32))
        self.register_buffer("bank", bank * torch.ones(3))


def test_a_constructor_that_computes_with_its_own_numbers_has_a_skeleton() -> None:
    module = build(_Filtering, torch.bfloat16, [])
    assert module.weight.is_meta
    assert module.weight.dtype == torch.bfloat16
    assert not module.bank.is_meta
