"""Which transformers' weights can be divided, and what such weights do not do."""

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from roles.parallel import Parallel
from roles.refusals import Unsupported
from roles.split.parallel.tensor import why_not
from roles.split.weights.adapters import Adapters
from roles.split.weights.exchange import Exchange
from roles.split.weights.sleeper import Sleeper
from transfer.messages import Speed, StepCache
from transfer.speed import told, why_fixed


class Planned:
    """A transformer's class, of which diffusers knows how to divide the weights."""

    _tp_plan: dict[str, str] | None = {"blocks.*.up": "colwise"}  # noqa: RUF012  # as diffusers has it
    heads: int | None = 6

    @classmethod
    def load_config(cls, path: Path) -> dict[str, Any]:
        return {"num_attention_heads": cls.heads}


class Unplanned(Planned):
    _tp_plan = None


class Headless(Planned):
    heads = None


@pytest.mark.parametrize(
    ("kind", "speed", "ranks", "reason"),
    [
        (Planned, {}, 2, None),
        (Planned, {}, 3, None),
        (Headless, {}, 4, None),
        (Planned, {}, 4, "Planned has 6 attention heads, which tensor=4 does not divide"),
        (Unplanned, {}, 2, "diffusers has no plan to divide the weights of Unplanned"),
        (Planned, {"compile": True}, 2, "tensor=2 does not go with --compile"),
        (Planned, {"quantize": "int8"}, 2, "tensor=2 does not go with --quantize"),
        (
            Planned,
            {"step_cache": StepCache("taylorseer", interval=5)},
            2,
            "tensor=2 does not go with --step-cache",
        ),
    ],
)
def test_what_can_be_divided(
    kind: type[Planned], speed: dict[str, Any], ranks: int, reason: str | None
) -> None:
    assert why_not(kind, Path(), Speed("auto", **speed), Parallel(tensor=ranks)) == reason


def test_weights_of_which_each_rank_has_a_part_stay_as_they_are() -> None:
    speed = Speed("float32", context=Parallel(tensor=2).context)
    assert told(speed) == "tensor=2"
    reason = "started with --parallel tensor=2: each rank has a part of the weights"
    assert why_fixed(speed) == reason
    assert why_fixed(Speed("float32", context="ulysses=2")) is None
    assert why_fixed(None) is None
    sleeper = Sleeper({}, torch.device("cpu"), None, speed)
    for level in (1, 2):
        with pytest.raises(Unsupported, match=reason):
            sleeper.sleep(level)
    exchange = Exchange(sleeper, MagicMock(), speed)
    with pytest.raises(Unsupported, match=reason):
        exchange._check_supported({"transformer": None})
    exchange._check_supported({"vae": None})
    pipeline = MagicMock(_lora_loadable_modules=["transformer"])
    adapters = Adapters(pipeline, {"transformer": MagicMock()}, speed, {})
    with pytest.raises(Unsupported, match=reason):
        adapters.load("style", "nowhere")
