"""What only feeds other encoders crosses as a shape."""

from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, LTX2Pipeline

from roles.split.encoding.feeding import ALL, feeding, without_fed
from transfer.payload import pack

ENCODERS = frozenset({"text_encoder", "connectors"})


class _Feeds:
    connectors: Any
    transformer: Any
    encode_prompt: Any
    check_inputs: Any

    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        self.check_inputs(prompt, embeds)
        embeds, mask, negative = self.encode_prompt(prompt, embeds=embeds)
        if negative is not None:
            embeds = torch.cat([negative, embeds])
        batch = embeds.shape[0]
        text = self.connectors(embeds, mask)
        return self.transformer(text.to(embeds.dtype), mask, batch)


class _Reads(_Feeds):
    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        embeds, mask, negative = self.encode_prompt(prompt)
        longer = torch.cat([embeds, negative])
        return self.transformer(longer, self.connectors(mask))


class _Twice(_Feeds):
    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        text = self.encode_prompt(prompt)
        text = self.encode_prompt(text)
        return self.connectors(text)


class _Alone(_Feeds):
    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        text = self.encode_prompt(prompt)
        return self.transformer(self.connectors.forward(text))


class _Writes(_Feeds):
    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        text = self.encode_prompt(prompt)
        self.kept = text
        return self.connectors(text)


class _Numbers(_Feeds):
    def __call__(self, prompt: str, embeds: Any = None) -> Any:
        text = self.encode_prompt(prompt)
        if text.sum() > 0:
            return None
        return self.connectors(text)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (_Feeds, {"encode_prompt": {0, 2}}),
        (_Reads, {"encode_prompt": {1}}),
        (_Twice, {}),
        (_Alone, {"encode_prompt": {ALL}}),
        (_Writes, {}),
        (_Numbers, {}),
    ],
)
def test_the_source_says_what_only_feeds(kind: Any, found: Any) -> None:
    assert feeding(kind, ENCODERS) == found


def test_ltx2_feeds_its_connectors() -> None:
    assert feeding(LTX2Pipeline, ENCODERS)["encode_prompt"] >= {0, 2}


def test_nothing_that_a_transformer_reads_is_said_to_feed() -> None:
    """The families whose encodings go straight to their transformer."""
    for name in ("FluxPipeline", "WanPipeline", "QwenImagePipeline", "StableDiffusionXLPipeline"):
        kind: type[DiffusionPipeline] = getattr(diffusers, name)
        places = feeding(kind, frozenset({"text_encoder", "text_encoder_2"}))
        assert 0 not in places.get("encode_prompt", ()), name
        assert ALL not in places.get("encode_prompt", ()), name


def test_it_weighs_nothing() -> None:
    large, small = torch.ones(1, 1 << 20), torch.ones(1, 4)
    crossing = without_fed((large, small), {0})
    assert crossing[0].shape == large.shape
    assert crossing[1] is small
    assert pack([crossing]).nbytes < 4096
    assert without_fed([large, small], {0})[0] is large  # no tuple: not the form that was read
