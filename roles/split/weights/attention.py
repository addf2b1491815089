"""`--attention-backend`: diffusers' own switch, on the transformers that have one."""

from collections.abc import Mapping
from typing import Any

from roles.split.program import ModelError


def set_backend(parts: Mapping[str, Any], backend: str) -> None:
    """Raises ModelError for a name that there is not, a backend that is not installed, and a model
    whose attention would go on as before."""
    able = [part for part in parts.values() if _follows(part)]
    if not able:
        kinds = " or ".join(type(part).__name__ for part in parts.values())
        raise ModelError(f"the attention of {kinds} has no --attention-backend; leave it out")
    for part in able:
        try:
            part.set_attention_backend(backend)
        except (ValueError, RuntimeError, ImportError) as error:
            words = str(error).strip().splitlines()[0].replace("`backend='", "'").replace("`", "")
            raise ModelError(f"--attention-backend {backend}: {words}") from error


def _follows(part: Any) -> bool:
    """Whether any of its attention asks for the backend."""
    if not hasattr(part, "set_attention_backend"):
        return False
    processors = (getattr(module, "processor", None) for module in part.modules())
    return any(hasattr(processor, "_attention_backend") for processor in processors)
