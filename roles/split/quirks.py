"""The exceptions: where a model's own code needs more than the general way gives it.

One entry each, with its reason. Nothing outside of this file knows a family.
"""

from collections.abc import Collection
from typing import NamedTuple

# A stand-in poses as its component's class, but for these, while another component is beside it.
#   unet, motion_adapter: the video pipelines on an image UNet build their own UNet out of it in the
#   constructor, copying weights, whenever it is an instance of the image UNet's class.
UNPOSED = {"unet": "motion_adapter"}


def poses(component: str, beside: Collection[str]) -> bool:
    """Whether the stand-in of this component says that it is of the component's class."""
    return UNPOSED.get(component) not in beside


# Components that are a part of a transformers model, in whose folder is the config of the whole:
#   the attribute of that config which is theirs. diffusers reads them with a class of its own.
PART_OF_CONFIG = {"T5GemmaEncoder": "encoder"}


# ---------------------------------------------------------------- batching, by class

# Models whose forwards run alone.
ALONE = {
    "UNetMotionModel": "it takes a row of text embeddings for each frame of each sample",
    "UNetSpatioTemporalConditionModel": "it repeats its embeddings for each frame by itself",
}

# Pipelines whose forwards run alone, one by one, where they are called. By class, or by one of its
#   base classes.
_ATTENTION = "it reads what its attention processors kept of a forward, beside the forward's result"
ONE_BY_ONE = {
    "StableDiffusionSAGPipeline": _ATTENTION,
    "StableDiffusionAttendAndExcitePipeline": _ATTENTION,
    "StableDiffusionPix2PixZeroPipeline": _ATTENTION,
    "PAGMixin": "its attention processors cut the whole batch into guided, unguided and perturbed",
}


def one_by_one(kind: type) -> str | None:
    """Why the forwards of this class of pipelines run alone; None if they need not."""
    reasons = (ONE_BY_ONE.get(each.__name__) for each in kind.__mro__)
    return next((reason for reason in reasons if reason), None)


class Padding(NamedTuple):
    """A text argument `[samples, tokens, channels]`, and its mask `[samples, tokens]`."""

    name: str
    mask: str


# Models that know a mask of the text, although their pipelines give texts without any padding.
#   Two prompts hardly ever have the same number of tokens: without this they would never share.
PADDED = {
    "QwenImageTransformer2DModel": Padding("encoder_hidden_states", "encoder_hidden_states_mask"),
}


# ---------------------------------------------------------------- step caches, by class of block

# Blocks whose latents are the argument of this place, where diffusers' step caches look for one
#   that is called hidden_states.
CACHED_INPUTS = {"ZImageTransformerBlock": 0}


# ---------------------------------------------------------------- ranks, by class

# Models whose tokens cannot be divided, although diffusers has a plan for it.
NOT_DIVIDED = {
    "LTXVideoTransformer3DModel": "diffusers' plan leaves the rotary embeddings of "
    "LTXVideoTransformer3DModel whole, which then do not fit",
    "LTX2VideoTransformer3DModel": "diffusers' plan leaves the rotary embeddings of "
    "LTX2VideoTransformer3DModel whole, and its sound, which then do not fit",
}
