"""Text encoders that write, with LoRA adapters on them: each request writes with its own, whoever
else writes between two of its tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin

from roles.split.encoding.generation import Generation, Generator
from roles.split.encoding.written import WrittenTogether
from roles.split.randomness import GlobalRandomness
from roles.split.weights import adapted
from roles.split.weights.adapters import Adapters
from tests.support.loras import OF_TEXT, random_layers, save
from tests.support.writers import ministral
from transfer.messages import Lora

CPU = torch.device("cpu")
A, B, HALF = Lora("a"), Lora("b"), Lora("a", 0.5)
NAME = "text_encoder"


class Writing(StableDiffusionLoraLoaderMixin):
    """A pipeline as far as its adapters go."""

    hf_device_map = None

    def __init__(self, module: Any) -> None:
        self.text_encoder, self.unet = module, None
        self.components = {NAME: module}


class Writer:
    """A model that writes, with two adapters loaded."""

    def __init__(self, folder: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model: Any = ministral()
        self.generator = Generator(NAME, self.model)
        for seed, name in enumerate("ab"):
            save({NAME: random_layers(self.model, OF_TEXT, seed)}, folder / name)
            adapted.remove(self.model, "default")
        self.adapters = Adapters(Writing(self.model), {}, None, {NAME: self.model})
        for name in "ab":
            assert self.adapters.load(name, str(folder / name)).lora.parts == [NAME]

    def plain(self, *loras: Lora) -> list[int]:
        """What the model writes by itself with these on."""
        self.adapters.put_on_all(loras)
        made: list[int] = self.model.generate(**PROMPT, max_new_tokens=8)[0].tolist()
        return made

    def begun(self, *loras: Lora) -> Generation:
        def program(generation: Generation) -> Any:
            generate = generation.generate_of(self.generator)
            return generate(**PROMPT, max_new_tokens=8)[0].tolist()

        worn = self.adapters.worn(loras)
        made = Generation("r", program, [self.generator], GlobalRandomness(1, CPU), worn)
        made.start()
        made.read()
        return made


PROMPT = {"input_ids": torch.arange(10, 16)[None], "attention_mask": torch.ones(1, 6).long()}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        torch.set_grad_enabled(False)
        yield


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("loras"))


def test_each_writes_with_its_own(writer: Writer) -> None:
    kinds = [(A,), (), (B,), (A, B), (HALF,)]
    expected = [writer.plain(*kind) for kind in kinds]
    assert len({tuple(each) for each in expected}) > 3  # they matter
    running = [writer.begun(*kind) for kind in kinds]
    assert len({call.key for each in running for call in each.pending}) == len(kinds)
    while not all(each.done for each in running):
        for each in running:
            each.resume([call.run() for call in each.pending])
    assert [each.result() for each in running] == expected


def test_those_with_the_same_share_a_forward(writer: Writer) -> None:
    together, expected = WrittenTogether(), writer.plain(A)
    running, other = [writer.begun(A), writer.begun(A)], writer.begun(B)
    while not running[0].done:
        other.resume([call.run() for call in other.pending])
        calls = [call for each in running for call in each.pending]
        told = together.run(calls, str(calls[0].key))
        assert (told.size, told.most) == (2, None)  # the trial beside it finds no difference
        for each, result in zip(running, told.results, strict=True):
            each.resume([result])
    assert [each.result() for each in running] == [expected, expected]
    assert other.result() == writer.plain(B)
