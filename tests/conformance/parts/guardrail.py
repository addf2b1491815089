"""In the place of Cosmos' guardrail, a package of its own that downloads gigabytes: lets all pass.

The constructors of the pipelines make one, wherever they are loaded, and refuse to run without.
"""

from typing import Any

import torch


class Guardrail(torch.nn.Module):
    device = torch.device("cpu")
    dtype = torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def unguarded(module: Any, kind: str, **parts: Any) -> Any:
    """A pipeline of that class of a module of diffusers; from then on the module's pipelines have
    this guardrail. It is no part of what is saved."""
    module.CosmosSafetyChecker = Guardrail
    pipeline = getattr(module, kind)(**parts)
    pipeline.register_modules(safety_checker=None)
    return pipeline
