"""Pictures that came with a request, as the pipeline's arguments.

Whoever runs the first part of a pipeline gets them (`Call.media`); from there on they travel in the
payload, under `media`, since every part runs the pipeline's own program with the same arguments.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from roles.split.program import BadInput, Call

_NAMES = {"image", "mask_image", "control_image", "last_image", "reference_image"}


def picture_arguments(call: Callable[..., Any]) -> dict[str, bool]:
    """The arguments of a pipeline's `__call__` that are pictures, and whether one is required."""
    found = inspect.signature(call).parameters
    return {n: p.default is p.empty for n, p in found.items() if n in _NAMES}


def with_media(call: Call, payload: Any) -> Call:
    """The call, with what a part of the pipeline that ran before was given."""
    media = payload.get("media") if isinstance(payload, dict) else None
    return replace(call, media=media) if media else call


def carried(call: Call) -> dict[str, Any]:
    """What a payload says of it."""
    return {"media": dict(call.media)} if call.media else {}


def accept(known: Mapping[str, bool], media: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments: a picture, or the list of several. Raises BadInput that names the
    field."""
    for name in media:
        if name not in known:
            raise BadInput(f"this model takes no {name}", name)
    for name, required in known.items():
        if required and not media.get(name):
            raise BadInput(f"{name} is missing", name)
    return {name: list(value) if len(value) > 1 else value[0] for name, value in media.items()}
