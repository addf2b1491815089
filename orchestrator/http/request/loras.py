"""Which adapters a request has on, checked at the door. Pure."""

from collections.abc import Mapping

from orchestrator.http.errors import bad_field
from orchestrator.http.request.schema import ImageRequest
from transfer.actions import Adapter
from transfer.messages import Lora


def loras_of(request: ImageRequest, adapters: Mapping[str, Adapter]) -> list[Lora]:
    """All of them, each with its scale. `adapters`: those that are loaded; a request that names
    none has on what was loaded to be on. Raises a 400 for one that is not loaded."""
    if request.loras is None:
        return [Lora(x.name, x.scale) for x in adapters.values() if x.scale]
    chosen: dict[str, Lora] = {}
    for field in request.loras:
        known = adapters.get(field.name)
        if known is None:
            there = ", ".join(adapters) or "none"
            message = f"`loras`: there is no adapter {field.name[:64]!r}; loaded: {there}"
            raise bad_field("loras", message, "unknown_adapter")
        if field.name in chosen:
            raise bad_field("loras", f"`loras`: {field.name[:64]!r} is there twice")
        chosen[field.name] = Lora(known.name, known.scale if field.scale is None else field.scale)
    return list(chosen.values())
