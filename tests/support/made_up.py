"""A modular pipeline that nobody has ever heard of, as if a later diffusers had brought it: blocks,
a transformer and a text encoder of its own, and no block that is called `denoise`."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ClassifierFreeGuidance,
    ConfigMixin,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    ModularPipeline,
)
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.modular_pipelines.modular_pipeline import (
    LoopSequentialPipelineBlocks,
    ModularPipelineBlocks,
    SequentialPipelineBlocks,
)
from diffusers.modular_pipelines.modular_pipeline_utils import (
    ComponentSpec,
    InputParam,
    OutputParam,
)
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedTokenizerFast

from tests.support.model_parts import byte_tokenizer, vae

_GROUP = "dreams"
_GUIDER = ComponentSpec(
    "guider",
    ClassifierFreeGuidance,
    config=FrozenDict({"guidance_scale": 2.0}),
    default_creation_method="from_config",
)
_PROCESSOR = ComponentSpec(
    "image_processor",
    VaeImageProcessor,
    config=FrozenDict({"vae_scale_factor": 8}),
    default_creation_method="from_config",
)


class DreamReader(ModelMixin, ConfigMixin):
    """A text encoder: the mean of the tokens' embeddings."""

    @register_to_config
    def __init__(self, width: int = 8, tokens: int = 512) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(tokens, width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).mean(dim=1)


class DreamTransformer(ModelMixin, ConfigMixin):
    """Velocity of latents `[samples, 4, height, width]`, towards a text `[samples, width]`."""

    @register_to_config
    def __init__(self, width: int = 8, channels: int = 4) -> None:
        super().__init__()
        self.inwards = torch.nn.Conv2d(channels, width, 3, padding=1)
        self.outwards = torch.nn.Conv2d(width, channels, 3, padding=1)

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor
    ) -> tuple[torch.Tensor]:
        inside = self.inwards(hidden_states) + text[:, :, None, None]
        inside = inside * (1 + timestep[:, None, None, None] / 1000)
        return (self.outwards(torch.nn.functional.silu(inside)),)


class DreamRead(ModularPipelineBlocks):
    model_name = "dream"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("reader", DreamReader),
            ComponentSpec("tokenizer", PreTrainedTokenizerFast),
            _GUIDER,
        ]

    @property
    def inputs(self) -> list[InputParam]:
        return [InputParam("prompt", required=True), InputParam("negative_prompt")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        kinds = ("text", "negative_text")
        return [OutputParam(k, type_hint=torch.Tensor, kwargs_type=_GROUP) for k in kinds]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        read = [block_state.prompt, block_state.negative_prompt or ""]
        ids = [components.tokenizer(each, return_tensors="pt").input_ids for each in read]
        block_state.text, block_state.negative_text = map(components.reader, ids)
        self.set_block_state(state, block_state)
        return components, state


class DreamPrepare(ModularPipelineBlocks):
    model_name = "dream"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("scheduler", FlowMatchEulerDiscreteScheduler),
            ComponentSpec("vae", AutoencoderKL),
        ]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("height", type_hint=int, default=32),
            InputParam("width", type_hint=int, default=32),
            InputParam("num_inference_steps", type_hint=int, default=4),
            InputParam("wildness", type_hint=float, default=1.0),
            InputParam("generator"),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=torch.Tensor), OutputParam("timesteps")]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        scale = 2 ** (len(components.vae.config.block_out_channels) - 1)
        shape = (1, 4, block_state.height // scale, block_state.width // scale)
        latents = randn_tensor(shape, generator=block_state.generator)
        block_state.latents = latents * block_state.wildness
        components.scheduler.set_timesteps(block_state.num_inference_steps)
        block_state.timesteps = components.scheduler.timesteps
        self.set_block_state(state, block_state)
        return components, state


class DreamStep(ModularPipelineBlocks):
    model_name = "dream"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("dreamer", DreamTransformer),
            ComponentSpec("scheduler", FlowMatchEulerDiscreteScheduler),
            _GUIDER,
        ]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("latents", type_hint=torch.Tensor, required=True),
            InputParam("num_inference_steps", type_hint=int, required=True),
            InputParam(kwargs_type=_GROUP),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=torch.Tensor)]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Any) -> Any:
        guider = components.guider
        guider.set_state(step=i, num_inference_steps=block_state.num_inference_steps, timestep=t)
        texts = block_state.dreams["text"], block_state.dreams["negative_text"]
        branches = guider.prepare_inputs({"text": texts})
        for branch in branches:
            guider.prepare_models(components.dreamer)
            latents = block_state.latents
            branch.noise_pred = components.dreamer(latents, t.expand(len(latents)), branch.text)[0]
            guider.cleanup_models(components.dreamer)
        velocity = guider(branches)[0]
        step = components.scheduler.step
        block_state.latents = step(velocity, t, block_state.latents, return_dict=False)[0]
        return components, block_state


class DreamLoop(LoopSequentialPipelineBlocks):
    model_name = "dream"
    block_classes = (DreamStep,)
    block_names = ("step",)

    @property
    def description(self) -> str:
        return "Dreams."

    @property
    def loop_inputs(self) -> list[InputParam]:
        return [InputParam("timesteps", required=True)]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        with self.progress_bar(total=len(block_state.timesteps)) as bar:
            for i, t in enumerate(block_state.timesteps):
                components, block_state = self.loop_step(components, block_state, i=i, t=t)
                bar.update()
        self.set_block_state(state, block_state)
        return components, state


class DreamPaint(ModularPipelineBlocks):
    model_name = "dream"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec("vae", AutoencoderKL), _PROCESSOR]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("latents", type_hint=torch.Tensor, required=True),
            InputParam("output_type", type_hint=str, default="pil"),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images")]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> Any:
        block_state = self.get_block_state(state)
        image = components.vae.decode(block_state.latents, return_dict=False)[0]
        kind = block_state.output_type
        block_state.images = components.image_processor.postprocess(image, output_type=kind)
        self.set_block_state(state, block_state)
        return components, state


class DreamImagine(SequentialPipelineBlocks):
    model_name = "dream"
    block_classes = (DreamPrepare, DreamLoop)
    block_names = ("prepare", "loop")


class DreamBlocks(SequentialPipelineBlocks):
    model_name = "dream"
    block_classes = (DreamRead, DreamImagine, DreamPaint)
    block_names = ("read", "imagine", "paint")


class DreamModularPipeline(ModularPipeline):
    default_blocks_name = "DreamBlocks"

    @property
    def vae_scale_factor(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


_NEW = (DreamReader, DreamTransformer, DreamBlocks, DreamModularPipeline)


def introduce(patch: pytest.MonkeyPatch) -> None:
    """Lets diffusers have it."""
    for kind in _NEW:
        patch.setattr(diffusers, kind.__name__, kind, raising=False)
    for kind in (DreamReader, DreamTransformer):  # where their folder says that they come from
        patch.setattr(kind, "__module__", "diffusers.models.dream")


def build(folder: Path) -> Path:
    """Of a diffusers that has it."""
    torch.manual_seed(0)
    made = DreamModularPipeline()
    made.update_components(
        reader=DreamReader(),
        tokenizer=byte_tokenizer(512),
        dreamer=DreamTransformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
    )
    made.save_pretrained(str(folder), overwrite_modular_index=True)
    return folder
