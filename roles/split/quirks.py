"""The exceptions: where a model's own code needs more than the general way gives it.

One entry each, with its reason. Nothing outside of this file knows a family.
"""

from collections.abc import Collection

# A stand-in poses as its component's class, but for these, while another component is beside it.
#   unet, motion_adapter: the video pipelines on an image UNet build their own UNet out of it in the
#   constructor, copying weights, whenever it is an instance of the image UNet's class.
UNPOSED = {"unet": "motion_adapter"}


def poses(component: str, beside: Collection[str]) -> bool:
    """Whether the stand-in of this component says that it is of the component's class."""
    return UNPOSED.get(component) not in beside
