"""Modules that say zeros of the shapes that the real ones would say."""

import pytest
import torch

from roles.split.imagined import saying_zeros


def test_shapes_that_do_not_fit_are_raised_and_not_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    join = saying_zeros(lambda one, other: torch.cat([one, other], dim=1), torch.device("cpu"))
    assert join(torch.ones(2, 3), torch.ones(2, 4)).shape == (2, 7)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        join(torch.ones(2, 3), torch.ones(5, 4))
    assert not caplog.records
    assert capfd.readouterr().err == ""
