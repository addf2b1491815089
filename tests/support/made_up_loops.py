"""Loops of the made-up pipeline that keep what they carry from step to step in other places."""

import copy
from typing import Any

import torch

from tests.support.made_up import (
    DreamLoop,
    DreamPaint,
    DreamPrepare,
    DreamRead,
    DreamStep,
    InputParam,
    SequentialPipelineBlocks,
)


def blocks_of(loop: type[Any]) -> type[Any]:
    """The blocks of a pipeline with this loop."""

    class DreamImagine(SequentialPipelineBlocks):
        model_name = "dream"
        block_classes = (DreamPrepare, loop)
        block_names = ("prepare", "loop")

    class DreamBlocks(SequentialPipelineBlocks):
        model_name = "dream"
        block_classes = (DreamRead, DreamImagine, DreamPaint)
        block_names = ("read", "denoise", "paint")

    return DreamBlocks


class InAVariable(DreamLoop):
    """Has a momentum in a variable of its function, which is a tensor."""

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        momentum = torch.zeros_like(block_state.latents)
        with self.progress_bar(total=len(block_state.timesteps)) as bar:
            for i, t in enumerate(block_state.timesteps):
                components, block_state = self.loop_step(components, block_state, i=i, t=t)
                momentum = momentum * 0.5 + block_state.latents * 0.1
                block_state.latents = block_state.latents + momentum
                bar.update()
        self.set_block_state(state, block_state)
        return components, state


class InAList(DreamLoop):
    """Has it in a list, of which others may hold the very same one."""

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        seen: list[torch.Tensor] = []
        with self.progress_bar(total=len(block_state.timesteps)) as bar:
            for i, t in enumerate(block_state.timesteps):
                components, block_state = self.loop_step(components, block_state, i=i, t=t)
                seen.append(block_state.latents)
                bar.update()
        block_state.latents = torch.stack(seen).mean(dim=0)
        self.set_block_state(state, block_state)
        return components, state


class WritingStep(DreamStep):
    """Writes its latents in place, and keeps a part of them that the next step sees changed."""

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Any) -> Any:
        window = getattr(block_state, "window", None)
        if window is None:
            block_state.latents = block_state.latents.clone()
            block_state.window = block_state.latents[:, :1]
        else:
            block_state.latents.add_(window.mean())
        latents = block_state.latents
        super().__call__(components, block_state, i=i, t=t)
        latents.copy_(block_state.latents)
        block_state.latents = latents
        return components, block_state


class InPlace(DreamLoop):
    block_classes = (WritingStep,)


class SpoilingStep(DreamStep):
    """Writes to what the encoders gave."""

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Any) -> Any:
        block_state.dreams["text"].mul_(1.01)
        return super().__call__(components, block_state, i=i, t=t)


class Spoiling(DreamLoop):
    block_classes = (SpoilingStep,)


class HoldingStep(DreamStep):
    """Has a scheduler of its own, a component and a generator in its state."""

    @property
    def inputs(self) -> list[Any]:
        return [*super().inputs, InputParam("generator")]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Any) -> Any:
        if i == 0:
            block_state.other = copy.deepcopy(components.scheduler)
        block_state.held = {"by": components.dreamer, "eta": [i, block_state.generator]}
        before = block_state.latents
        components, block_state = super().__call__(components, block_state, i=i, t=t)
        noise = torch.randn(before.shape, generator=block_state.held["eta"][1])
        there = block_state.other.step(noise, t, before, return_dict=False)[0]
        block_state.latents = block_state.latents + there * 0.1
        return components, block_state


class Holding(DreamLoop):
    block_classes = (HoldingStep,)


class Piece(DreamStep):
    """All steps of a piece: latents that nobody sees before it is made."""

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, k: int) -> Any:
        components.scheduler.set_timesteps(block_state.num_inference_steps)
        latents = block_state.latents + k
        for t in components.scheduler.timesteps:
            text = block_state.dreams["text"]
            velocity = components.dreamer(latents, t.expand(len(latents)), text)[0]
            latents = components.scheduler.step(velocity, t, latents, return_dict=False)[0]
        block_state.latents.mul_(0.5).add_(latents)
        return components, block_state


class Pieces(DreamLoop):
    """A loop over two pieces, whose steps are inside of a block."""

    block_classes = (Piece,)

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        for k in range(2):
            components, block_state = self.loop_step(components, block_state, k=k)
        self.set_block_state(state, block_state)
        return components, state
