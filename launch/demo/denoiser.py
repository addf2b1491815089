"""The demo model's denoiser and its training, together with the text encoder.

Rectified flow (https://arxiv.org/abs/2209.03003): latents at noise level sigma are
`(1 - sigma) * clean + sigma * noise`, and the transformer learns `noise - clean`. What it is fed is
what `CogView4Pipeline` feeds it: the unshifted timestep, text padded on the left to 16 tokens, the
empty prompt for no guidance, and the constant picture size.
"""

import copy
from dataclasses import dataclass

import torch
from diffusers import CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn import functional
from transformers import GlmModel, PreTrainedTokenizerFast

from launch.demo.autoencoder import LATENT_CHANNELS
from launch.demo.drawing import SIZE
from launch.demo.muon import Muon
from launch.demo.text import WIDTH as TEXT_WIDTH
from launch.demo.text import build_text_encoder

WIDTH, HEADS, LAYERS = 128, 4, 6
TIMESTEPS = 1000
SHIFT = 2.0
"""The scheduler's shift: more of the steps at high noise, where a picture takes its shape."""
GUIDANCE, STRENGTH = 5.0, 1.6
"""The pipeline's default guidance scale, and how far beyond the unguided it should really go."""
TEXT_MULTIPLE = 16
"""CogView4Pipeline pads prompts on the left to a multiple of so many tokens."""


@dataclass(frozen=True, slots=True)
class DenoiserRecipe:
    """How the denoiser trains.

    The learning rate is full for `full` steps, falls to the share `plateau` on a line that would
    end at `fall_end`, stays there, and falls to 0 over the last `decay` steps. From step `calm` on
    it learns from pictures of the second of `spreads` (see `draw`): places and sizes that vary
    less are learnt to the point. The last `guided` steps prepare it for the pipeline's default
    guidance. `weights` are the shares of the kinds of scene.
    """

    steps: int = 5000
    full: int = 1250
    fall_end: int = 3600
    plateau: float = 1101 / 2350
    decay: int = 1100
    calm: int = 3250
    guided: int = 1000
    batch: int = 32
    pictures: int = 24_576
    spreads: tuple[float, float] = (1.0, 0.3)
    weights: tuple[int, int, int] = (40, 46, 14)
    matrix_rate: float = 0.012
    other_rate: float = 1.5e-3
    warmup: int = 60
    dropout: float = 0.1
    averaging: float = 0.998
    seed: int = 2

    def rate(self, step: int) -> float:
        """Share of the full learning rate at a step, counted from 0."""
        fall = (self.fall_end - step) / (self.fall_end - self.full)
        last = self.plateau * (self.steps - step) / self.decay
        return min(1.0, (step + 1) / self.warmup, max(fall, self.plateau), last)


def build_transformer() -> CogView4Transformer2DModel:
    """A fresh transformer of 2.5 M parameters whose blocks begin close to the identity."""
    transformer = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=WIDTH,
        condition_dim=16,
        sample_size=SIZE // 8,
        rope_axes_dim=(16, 16),
    )
    for block in transformer.transformer_blocks:
        nn.init.normal_(block.norm1.linear.weight, std=0.01)
        nn.init.zeros_(block.norm1.linear.bias)
        block.norm1.linear.bias.data.view(12, WIDTH)[[4, 5, 10, 11]] = 0.3
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.norm_out.linear.bias)
    nn.init.normal_(transformer.proj_out.weight, std=0.01)
    return transformer


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler that the model is trained for."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMESTEPS, shift=SHIFT)


def token_ids(tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> Tensor:
    """Token numbers `[prompts, 16]`, padded on the left as the pipeline pads them."""
    encoded = tokenizer(prompts, padding="max_length", max_length=TEXT_MULTIPLE)
    ids = torch.tensor(encoded.input_ids)
    assert ids.shape[1] == TEXT_MULTIPLE, "a training caption is longer than 16 tokens"
    return ids


class DenoiserTraining:
    """Text encoder, transformer, their optimisers and running averages at a step of training.

    A step depends on the recipe and its number alone, so that training resumed from a saved state
    ends where an uninterrupted one does.
    """

    def __init__(self, recipe: DenoiserRecipe, tokenizer: PreTrainedTokenizerFast) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.step = 0
        self.null = token_ids(tokenizer, [""])[0]
        self.models = nn.ModuleDict(
            {
                "text_encoder": build_text_encoder(len(tokenizer)),
                "transformer": build_transformer(),
            }
        )
        named = [(n, p) for n, p in self.models.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if _is_block_matrix(n, p)]
        others = [p for n, p in named if not _is_block_matrix(n, p)]
        self.trained = [p for _, p in named]
        self.averages = [p.detach().clone() for p in self.trained]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.02),
            torch.optim.Adam(others, lr=recipe.other_rate, betas=(0.9, 0.98), fused=True),
        ]

    def train_step(self, latents: Tensor, ids: Tensor) -> float:
        """One step on a batch drawn from all latents and the token numbers of their captions."""
        recipe = self.recipe
        lot = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        chosen = torch.randint(len(latents), (recipe.batch,), generator=lot)
        dropped = torch.rand(recipe.batch, 1, generator=lot) < recipe.dropout
        text = torch.where(dropped, self.null, ids[chosen])
        loss = self._loss(latents[chosen].float(), text, lot)
        loss.backward()
        self._update()
        self.step += 1
        return loss.item()

    def _loss(self, clean: Tensor, text: Tensor, lot: torch.Generator) -> Tensor:
        level = _levels(len(clean), lot)
        sigma = (SHIFT * level / (1 + (SHIFT - 1) * level)).view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=lot)
        noisy, target = (1 - sigma) * clean + sigma * noise, noise - clean
        predicted = self._predict(noisy, text, level)
        if self.step < self.recipe.steps - self.recipe.guided:
            return functional.mse_loss(predicted, target)
        return self._guided_loss(predicted, target, self._unguided(noisy, level), text)

    def _guided_loss(self, predicted: Tensor, target: Tensor, free: Tensor, text: Tensor) -> Tensor:
        """The loss of the last steps, for pictures that come out right at GUIDANCE.

        With a caption, the transformer learns to stand only STRENGTH / GUIDANCE of the way from
        its own prediction without one (`free`) to the target, so that the pipeline's guidance
        takes it STRENGTH of the way. The rest of the batch, without a caption, learns as before.
        """
        captioned = (text != self.null).any(dim=1).view(-1, 1, 1, 1)
        share = STRENGTH / GUIDANCE
        target = torch.where(captioned, free + share * (target - free), target)
        weight = torch.where(captioned, 1 / share, 1.0)
        return (weight * (predicted - target).pow(2)).mean()

    @torch.no_grad()
    def _unguided(self, noisy: Tensor, level: Tensor) -> Tensor:
        return self._predict(noisy, self.null.expand(len(noisy), -1), level)

    def _predict(self, noisy: Tensor, text: Tensor, level: Tensor) -> Tensor:
        """What the transformer predicts, fed as the pipeline feeds it."""
        embeddings = self.models["text_encoder"](text, output_hidden_states=True).hidden_states[-2]
        size = torch.full((len(noisy), 2), float(SIZE))
        predicted: Tensor = self.models["transformer"](
            hidden_states=noisy,
            encoder_hidden_states=embeddings,
            timestep=level * TIMESTEPS,
            original_size=size,
            target_size=size,
            crop_coords=torch.zeros(len(noisy), 2),
            return_dict=False,
        )[0]
        return predicted

    def _update(self) -> None:
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        share = self.recipe.rate(self.step)
        full = (self.recipe.matrix_rate, self.recipe.other_rate)
        for optimizer, rate in zip(self.optimizers, full, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        keep = min(self.recipe.averaging, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.trained], 1 - keep)

    def state(self) -> dict[str, object]:
        """Everything that the next step depends on, for `torch.save`."""
        return {
            "step": self.step,
            "models": self.models.state_dict(),
            "averages": self.averages,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def restore(self, state: dict[str, object]) -> None:
        """Goes back to a saved state."""
        self.step = state["step"]
        self.models.load_state_dict(state["models"])
        self.averages = state["averages"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def averaged(self) -> tuple[GlmModel, CogView4Transformer2DModel]:
        """Copies of the text encoder and the transformer that hold the running averages."""
        shadow = copy.deepcopy(self.models).requires_grad_(False)
        names = [name for name, p in self.models.named_parameters() if p.requires_grad]
        shadow.load_state_dict(dict(zip(names, self.averages, strict=True)), strict=False)
        shadow.eval()
        return shadow["text_encoder"], shadow["transformer"]


def _is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """True for the matrices of attention and feed-forward layers, which Muon trains."""
    inside = ".transformer_blocks." in name or ".layers." in name
    return inside and parameter.ndim == 2 and ".norm1." not in name


def _levels(count: int, lot: torch.Generator) -> Tensor:
    """Times in 0 to 1, before the shift: mostly logit-normal, a fifth uniform for both ends."""
    uniform = torch.rand(count, generator=lot)
    normal = torch.sigmoid(torch.randn(count, generator=lot))
    return torch.where(torch.rand(count, generator=lot) < 0.2, uniform, normal)
