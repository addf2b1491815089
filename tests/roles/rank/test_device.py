"""A device that torch cannot use is refused in one sentence."""

import pytest
import torch

from roles.rank.device import refusal, take


def test_a_processor_is_always_there() -> None:
    assert refusal("cpu") is None
    take("cpu")


def devices(patch: pytest.MonkeyPatch, count: int, version: str | None = "13.0") -> None:
    patch.setattr(torch.version, "cuda", version)
    patch.setattr(torch.cuda, "is_available", lambda: count > 0)
    patch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "version", "device", "why"),
    [
        (0, None, "cuda:0", "was built without CUDA"),
        (0, "13.0", "cuda", "torch finds no CUDA device here"),
        (2, "13.0", "cuda:2", "no such device here; there are cuda:0, cuda:1"),
        (2, "13.0", "cuda:1", None),
        (1, "13.0", "cuda", None),
    ],
)
def test_what_is_said_of_others(
    count: int, version: str | None, device: str, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices(monkeypatch, count, version)
    taken: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    told = refusal(device)
    take(device)
    if why is None:
        assert (told, taken) == (None, [device])
    else:
        assert told is not None
        assert told.startswith(f"--device {device}: ")
        assert why in told
        assert taken == []
