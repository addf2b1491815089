"""What a loop carries from step to step is read from its source."""

import pytest
from diffusers import (
    AnimateDiffPipeline,
    ChromaPipeline,
    CogVideoXPipeline,
    FluxPipeline,
    LTX2Pipeline,
    PixArtSigmaPipeline,
    QwenImagePipeline,
    StableDiffusionXLPipeline,
    WanPipeline,
    ZImagePipeline,
)

from roles.split.denoising.loop import NotPortable, loop_of


class Base:
    """Each of these differs from it in one thing."""

    def __init__(self, scheduler=None):
        pass

    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents = self.start()
        for i, t in enumerate(steps):
            noise = self.transformer(latents, t)
            latents = self.scheduler.step(noise, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class Momentum(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents, before = self.start(), None
        for i, t in enumerate(steps):
            noise = self.transformer(latents, t)
            before = noise if before is None else before + noise
            latents = self.scheduler.step(before, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class Growing(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents, seen = self.start(), []
        for i, t in enumerate(steps):
            seen.append(self.transformer(latents, t))
            latents = self.scheduler.step(sum(seen), t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class InPlace(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents, mask = self.start(), self.mask()
        for i, t in enumerate(steps):
            mask[i] = self.transformer(latents, t)
            latents = self.scheduler.step(mask, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class OnSelf(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents = self.start()
        for i, t in enumerate(steps):
            noise = self.guide(self.transformer(latents, t))
            latents = self.scheduler.step(noise, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents

    def guide(self, noise):
        self.last = noise + getattr(self, "last", 0)
        return self.last


class SecondScheduler(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents, audio_scheduler = self.start(), self.copy()
        for i, t in enumerate(steps):
            noise = self.transformer(latents, t)
            latents = audio_scheduler.step(noise, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class Branches(Base):
    """Written under one condition, read under a narrower one: carries nothing."""

    def __call__(
        self,
        steps,
        options,
        scale=1.0,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents = self.start()
        for i, t in enumerate(steps):
            if self.stop:
                continue
            self._now = t
            options["scale"] = scale
            noise = self.transformer(latents, t, options)
            if self.guided:
                text = noise[0]
                noise = noise[1]
            if self.guided and scale > 0.0:
                noise = noise + text
            latents = self.scheduler.step(noise, t, latents)
            callback_outputs = callback_on_step_end(self, i, t, {"latents": latents})
            latents = callback_outputs.pop("latents", latents)
        return latents


class Untaken(Base):
    def __call__(
        self,
        steps,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=["latents"],  # noqa: B006
    ):
        latents = self.start()
        for i, t in enumerate(steps):
            latents = self.scheduler.step(self.transformer(latents, t), t, latents)
            callback_on_step_end(self, i, t, {"latents": latents})
        return latents


@pytest.mark.parametrize(
    "kind",
    [
        FluxPipeline,
        ChromaPipeline,
        QwenImagePipeline,
        StableDiffusionXLPipeline,
        WanPipeline,
        ZImagePipeline,
        Base,
        Branches,
    ],
)
def test_these_carry_their_latents_only(kind):
    assert loop_of(kind).doubtful == frozenset()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Momentum, "before"),
        (Growing, "seen"),
        (InPlace, "mask"),
        (SecondScheduler, "audio_scheduler"),
        (LTX2Pipeline, "audio_latents"),
        (CogVideoXPipeline, "old_pred_original_sample"),
    ],
)
def test_these_may_carry_more(kind, name):
    assert name in loop_of(kind).doubtful


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OnSelf, "carries self.last"),
        (Untaken, "does not take latents back"),
        (AnimateDiffPipeline, "inside of 2 loops"),
        (PixArtSigmaPipeline, "in 0 places"),
    ],
)
def test_these_cannot_be_entered_in_the_middle(kind, reason):
    with pytest.raises(NotPortable, match=reason):
        loop_of(kind)
