"""Modules with LoRA layers in them, of which some are another module's too."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from roles.split.weights.adapted import Adapted, quietly, remove


class Holding(torch.nn.Module):
    def __init__(self, shared: torch.nn.Module) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(shared)


@pytest.fixture
def pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two that share a layer; the adapters a and b are the first one's."""
    first = Holding(torch.nn.Linear(2, 2))
    second = torch.nn.Module()
    second.inner = first.inner
    for name in "ab":
        config = LoraConfig(r=1, target_modules=["0"], init_lora_weights=False)
        with quietly():
            inject_adapter_in_model(config, first, name)
    return first, second


def names(module: torch.nn.Module) -> set[str]:
    return {name for name, part in module.named_modules() if name.endswith((".a", ".b"))}


def test_removing_one_leaves_the_others_in_what_is_shared(
    pair: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    first, second = pair
    remove(second, "a")
    assert {name[-1] for name in names(first)} == {"b"}


def test_what_acts_is_told_once_for_both(pair: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    first, second = pair
    x = torch.ones(1, 2)
    owner = Adapted(first)
    owner.act({"b": 1.0})
    with_b = second.inner(x)
    owner.act({})
    plain = second.inner(x)
    assert not torch.equal(plain, with_b)
    assert names(first) == set()
    owner.act({"b": 1.0})
    assert torch.equal(second.inner(x), with_b)
