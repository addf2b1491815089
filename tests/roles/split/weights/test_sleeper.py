"""Weights that leave and come back: the pixels are the same, adapters included."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from roles.refusals import Unsupported
from roles.split.loading import load
from roles.split.weights.sleeper import Part, Sleeper
from tests.support.loras import build_lora
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, same, through_roles
from transfer.messages import Lora, Speed

NAME = "zimage"


@pytest.fixture(scope="module")
def whole(folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All roles in one program, with an adapter."""
    program = load(folder(NAME), ["encoder", "denoiser", "decoder"])
    path = build_lora(folder(NAME), tmp_path_factory.mktemp("lora"), 1)
    assert program.adapters is not None
    program.adapters.load("a", str(path))
    return program


def pixels(program: Any, *loras: Lora) -> Any:
    asked = call(PARAMS[NAME], 1)
    asked = replace(asked, inputs=replace(asked.inputs, loras=list(loras)))
    return arrays(through_roles(program, program, program, asked))


def weights(program: Any) -> list[torch.Tensor]:
    parts = program.sleeper.parts.values()
    return [tensor for part in parts for tensor in part.module.parameters()]


@pytest.mark.parametrize("level", [1, 2])
def test_the_pixels_are_the_same_afterwards(whole: Any, level: int) -> None:
    before = [pixels(whole), pixels(whole, Lora("a", 0.8))]
    assert not same(*before)
    count = len(weights(whole))
    slept = whole.sleeper.sleep(level)
    assert (slept.level, slept.fresh, slept.device_bytes) == (level, True, 0)
    assert {tensor.is_meta for tensor in weights(whole)} == {level == 2}
    assert not whole.sleeper.sleep(level).fresh
    with pytest.raises(ValueError, match="wake it first"):
        whole.sleeper.sleep(3 - level)
    assert whole.sleeper.wake().level == level
    assert len(weights(whole)) == count
    assert same(pixels(whole), before[0])
    assert same(pixels(whole, Lora("a", 0.8)), before[1])


def test_weights_that_several_parts_share_are_shared_again(whole: Any) -> None:
    def shared() -> list[int]:
        found = [tensor.data_ptr() for tensor in weights(whole)]
        module = whole.pipeline.text_encoder
        names = dict(module.named_parameters(remove_duplicate=False))
        return [len(found), len({id(tensor) for tensor in names.values()}), len(names)]

    before = shared()
    whole.sleeper.sleep(2)
    whole.sleeper.wake()
    assert shared() == before


class Block(torch.nn.Module):
    """Has a layer of its own, and perhaps one of another component's."""

    def __init__(self, shared: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.own, self.shared = torch.nn.Linear(2, 2), shared


def test_what_is_another_components_comes_back_with_that() -> None:
    """As the blocks that Z-Image's ControlNets have from the transformer, and not from a file."""
    transformer = Block(torch.nn.Linear(2, 2))
    control = Block(transformer.shared)
    stored = copy.deepcopy(transformer), copy.deepcopy(control)
    stored[1].shared = None
    parts = {
        "controlnet": Part.of(control, lambda: stored[1], []),
        "transformer": Part.of(transformer, lambda: stored[0], []),
    }
    before = [each.clone() for part in (transformer, control) for each in part.parameters()]
    sleeper = Sleeper(parts, torch.device("cpu"), None, None)
    sleeper.sleep(2)
    sleeper.wake()
    assert control.shared is transformer.shared
    after = [each for part in (transformer, control) for each in part.parameters()]
    assert all(map(torch.equal, after, before))


def test_other_files_are_not_taken_for_the_weights(whole: Any, folder: Any) -> None:
    (file, *_) = sorted(Path(folder(NAME), "transformer").glob("*.safetensors"))
    before, told = pixels(whole), file.stat()
    whole.sleeper.sleep(2)
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns + 1))
    with pytest.raises(ValueError, match="changed on disk"):
        whole.sleeper.wake()
    assert whole.sleeper.level == 2
    assert all(tensor.is_meta for tensor in weights(whole))
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    whole.sleeper.wake()
    assert same(pixels(whole), before)


@pytest.mark.parametrize(
    ("speed", "level"), [(Speed(compile=True), 2), (Speed(quantize="int8"), 1)]
)
def test_what_cannot_leave_stays(speed: Speed, level: int) -> None:
    sleeper = Sleeper({}, torch.device("cpu"), None, speed)
    with pytest.raises(Unsupported):
        sleeper.sleep(level)
    assert sleeper.level == 0
