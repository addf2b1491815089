"""Models of any size that take no memory: every parameter is in bfloat16 on the meta device."""

from typing import Any

import torch

from roles.split import skeleton


def model(kind: Any, **config: Any) -> Any:
    """One of diffusers' classes. `config`: what differs from the defaults of the class."""
    return _filled(skeleton.build(lambda: kind(**config), torch.bfloat16, _in_float32(kind)))


def language(kind: Any, config: Any) -> Any:
    """One of the classes of transformers."""
    return skeleton.build(lambda: kind(config), torch.bfloat16, [])


def _in_float32(kind: Any) -> list[str]:
    return list(getattr(kind, "_keep_in_fp32_modules", None) or ())


def _filled(made: Any) -> Any:
    """Pipelines read the statistics of latents from buffers, which loading would fill."""
    for name in list(skeleton.stored_buffers(made)):
        shape = made.get_buffer(name)
        skeleton.set_tensor(made, name, torch.ones(shape.shape, dtype=shape.dtype))
    return made
