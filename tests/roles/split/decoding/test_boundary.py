"""Pipelines that decode more than once, told by their source; and what goes on after a decode."""

from typing import Any

import pytest
import torch

from roles.split.decoding.boundary import Boundary, Given, decodes_several_times
from roles.split.decoding.sparing import Sparing
from roles.split.program import TransformerCall, Unsplittable


class _Once:
    vae: Any

    def __call__(self, prompt: str) -> Any:
        for _ in range(3):
            self.vae.encode(prompt)
        return self.vae.decode(prompt)


class _Sections(_Once):
    def __call__(self, prompt: str) -> Any:
        return [self.vae.decode(each) for each in prompt]


class _Looped(_Once):
    def __call__(self, prompt: str) -> Any:
        for _ in range(2):
            self._shown(prompt)

    def _shown(self, prompt: str) -> Any:
        return self.vae.decode(prompt)


class _Twice(_Once):
    def __call__(self, prompt: str) -> Any:
        return self.vae.decode(prompt), self.vae.decode(prompt)


class _Words(_Once):
    tokenizer: Any

    def __call__(self, prompt: str) -> Any:
        for word in prompt:
            self.tokenizer.decode(word)
        return self.vae.decode(prompt)


@pytest.mark.parametrize(
    ("kind", "several"),
    [(_Once, False), (_Sections, True), (_Looped, True), (_Twice, True), (_Words, False)],
)
def test_source_says_whether_a_class_decodes_several_times(kind: Any, several: bool) -> None:
    assert decodes_several_times(kind, ["vae"]) is several


def test_two_decoders_are_several() -> None:
    assert decodes_several_times(_Once, ["vae", "audio_vae"])


def _after_a_decode() -> Boundary:
    boundary = Boundary("FilmPipeline", torch.Generator(), several=True)
    boundary.decodes.append(("vae", [], {}, torch.empty(0)))
    return boundary


def _forward(latents: torch.Tensor) -> TransformerCall:
    return TransformerCall(None, "transformer", (), {"hidden_states": [latents]})


def test_forwards_after_a_decode_that_do_not_need_it_go_on() -> None:
    _after_a_decode().check_forward(_forward(torch.zeros(2)))


def test_forwards_of_what_was_decoded_have_no_roles() -> None:
    with pytest.raises(Unsplittable, match="goes on from what was decoded"):
        _after_a_decode().check_forward(_forward(torch.zeros(2, device="meta")))


def test_decodes_that_the_denoiser_never_came_to_have_no_roles() -> None:
    given = Given("FilmPipeline", [], torch.Generator(), Sparing("r", exact=False))
    with pytest.raises(Unsplittable, match="before it decodes the rest"):
        given.decode("vae", None, (torch.zeros(2),), {})
