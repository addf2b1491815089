"""How a rank says that it is well: because it computed lately, or because it can."""

from unittest.mock import patch

import pytest
import torch

from roles.rank import health
from roles.rank.health import Health


def test_who_computed_lately_is_not_tested() -> None:
    rank = Health("cpu")
    rank.computed()
    with patch.object(Health, "_test", side_effect=AssertionError("it was")):
        told = rank.report(3)
    assert (told.tested, told.requests, told.device) == (False, 3, "cpu")
    assert told.computed_s is not None
    assert told.computed_s < health.RECENT_S
    assert told.host_bytes > 1 << 20
    assert (told.device_bytes, told.device_total_bytes) == (None, None)


def test_who_computed_nothing_yet_is_tested() -> None:
    told = Health("cpu").report(0)
    assert (told.tested, told.computed_s) == (True, None)


def test_who_computed_long_ago_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Health("cpu")
    rank.computed()
    monkeypatch.setattr(health, "RECENT_S", 0.0)
    assert rank.report(0).tested


def test_a_device_that_computes_wrongly_is_not_well() -> None:
    def outer(rows: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(rows), len(rows))

    with patch("torch.outer", outer), pytest.raises(RuntimeError, match="cpu computes wrongly"):
        Health("cpu").report(0)
