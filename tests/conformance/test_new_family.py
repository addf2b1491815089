"""A family that diffusers adds after us is served as it is: nothing of ours knows these classes.

Its transformer is conditioned in a way of its own, its scheduler draws noise in each step, and its
`__call__` has arguments that no other pipeline has.
"""

import sys
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from tests.conformance.case import Case
from tests.conformance.judge import judge
from tests.support.model_parts import byte_tokenizer, t5, vae


class LanternTransformer(ModelMixin, ConfigMixin):
    """Mixes latents `[samples, 4, height, width]` with words that are weighed by their glow."""

    @register_to_config
    def __init__(self, channels: int = 4, words: int = 32) -> None:
        super().__init__()
        self.inner = torch.nn.Conv2d(channels, 16, 3, padding=1)
        self.to_q = torch.nn.Linear(words, 16)
        self.outer = torch.nn.Conv2d(16, channels, 3, padding=1)

    def forward(self, hidden_states, timestep, lantern_words, glow):
        hue = (self.to_q(lantern_words) * glow[:, :, None]).mean(1)
        hue = hue + (timestep[:, None] / 1000).to(hue.dtype)
        seen = torch.nn.functional.silu(self.inner(hidden_states) + hue[:, :, None, None])
        return SimpleSample(sample=self.outer(seen))


class SimpleSample(diffusers.utils.BaseOutput):
    sample: torch.Tensor


class LanternScheduler(SchedulerMixin, ConfigMixin):
    """Goes on from the step before, which it keeps, and draws as much noise as it is told."""

    @register_to_config
    def __init__(self, noise: float = 0.1) -> None:
        self.before = None

    def set_timesteps(self, count, device=None):
        self.timesteps = torch.linspace(999, 0, count, device=device)
        self.before = None

    def step(self, output, timestep, sample, generator=None):
        before = output if self.before is None else self.before
        self.before = output
        drawn = randn_tensor(sample.shape, generator=generator, dtype=sample.dtype)
        moved = sample - (1.5 * output - 0.5 * before) / len(self.timesteps)
        return SimpleNamespace(prev_sample=moved + self.config.noise * drawn)


class LanternPipeline(DiffusionPipeline):
    """A picture and a text to a picture."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(self, tokenizer, text_encoder, transformer, vae, scheduler):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    def encode_prompt(self, prompt, dimness):
        read = self.tokenizer(
            prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        )
        words = self.text_encoder(read.input_ids)[0]
        return {"words": words, "glow": read.attention_mask.to(words.dtype) * (1 - dimness)}

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        image: Image.Image | None = None,
        dimness: float = 0.25,
        num_inference_steps: int = 4,
        lantern_scale: float = 3.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006
    ):
        lit = self.encode_prompt(prompt, dimness)
        dark = self.encode_prompt("", 1.0)
        pixels = self.image_processor.preprocess(image).to(self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.sample(generator)
        latents = latents + randn_tensor(latents.shape, generator=generator, dtype=latents.dtype)
        self.scheduler.set_timesteps(num_inference_steps)
        for i, t in enumerate(self.scheduler.timesteps):
            time = t.expand(len(latents))
            with_it, without = (
                self.transformer(latents, time, lantern_words=one["words"], glow=one["glow"]).sample
                for one in (lit, dark)
            )
            guided = without + lantern_scale * (with_it - without)
            latents = self.scheduler.step(guided, t, latents, generator).prev_sample
            if callback_on_step_end is not None:
                callback_kwargs = {}
                for k in callback_on_step_end_tensor_inputs:
                    callback_kwargs[k] = locals()[k]
                callback_outputs = callback_on_step_end(self, i, t, callback_kwargs)
                latents = callback_outputs.pop("latents", latents)
        made = self.vae.decode(latents, return_dict=False)[0]
        return diffusers.ImagePipelineOutput(
            images=self.image_processor.postprocess(made, output_type=output_type)
        )


def build() -> LanternPipeline:
    return LanternPipeline(
        byte_tokenizer(512), t5(), LanternTransformer(), vae(), LanternScheduler()
    )


def arguments() -> dict[str, object]:
    numbers = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    return {"prompt": "a lantern", "image": Image.fromarray(numbers), "dimness": 0.5}


@pytest.fixture
def _a_later_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has this family."""
    monkeypatch.setitem(sys.modules, "diffusers.lantern", sys.modules[__name__])
    for kind in (LanternTransformer, LanternScheduler, LanternPipeline):
        monkeypatch.setattr(kind, "__module__", "diffusers.lantern")
        monkeypatch.setattr(diffusers, kind.__name__, kind, raising=False)


@pytest.mark.usefixtures("_a_later_diffusers")
def test_a_family_that_nobody_knew_is_served_exactly() -> None:
    told = judge(Case("LanternPipeline", "image to image", build, arguments), NOT_FORKING)
    verdict = told.verdict
    assert verdict.exact, told.traces
    assert verdict.split.how == "split"
    assert verdict.split.cut == "vae.decode"
    assert verdict.split.crosses == ["encode_prompt", "vae.encode", "image"]
    assert (verdict.batch.holds, verdict.batch.shared) == ("yes", ["transformer"]), told.traces
    assert verdict.batch.most == 4  # two requests with two branches of guidance each
    assert (verdict.resume.holds, verdict.resume.at) == ("yes", "2 of 4"), verdict.resume.why


NOT_FORKING = ("split", "batch", "resume")
