"""What a request says of speed, checked at the door. Pure."""

import msgspec

from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.request.schema import ImageRequest
from transfer.messages import ModelInfo, Speed, StepCache
from transfer.speed import DEFAULTS, complete, switches

MAX_HEADER = 500  # characters


def step_cache(request: ImageRequest, model: ModelInfo) -> StepCache | None:
    """The step cache that the request asks for; None: as the denoisers were started.

    Raises `ApiError`: 400 for one that is none, 422 for one that the model does not have, and for
    `exact` together with anything that changes the pixels.
    """
    asked = _asked(request)
    if asked is not None and asked.type != "none" and asked.type not in model.step_caches:
        known = ", ".join(["none", *model.step_caches])
        message = f"`step_cache`: {model.name} has no {asked.type}; it has {known}"
        raise unsupported("step_cache", message)
    if request.exact and (on := switches(model.speed, asked)):
        raise unsupported("exact", _inexact(on, model.speed, asked))
    return asked


def _asked(request: ImageRequest) -> StepCache | None:
    field = request.step_cache
    if field is None:
        return None
    if field.type not in DEFAULTS:
        raise bad_field("step_cache", f"`step_cache`: type is one of {', '.join(DEFAULTS)}")
    try:
        return complete(msgspec.convert(msgspec.structs.asdict(field), StepCache))
    except ValueError as error:
        raise bad_field("step_cache", f"`step_cache`: {error}") from None


def _inexact(on: list[str], speed: Speed | None, asked: StepCache | None) -> str:
    message = f"`exact`: the pixels are not the plain pipeline's with {', '.join(on)}"
    if switches(speed, StepCache("none")):
        return f"{message}, with which the denoisers of this server were started"
    if asked is None:
        return f'{message}, which this server does by itself; add "step_cache": {{"type": "none"}}'
    return f"{message}; leave out one of the two"


def speed_header(told: list[str | None]) -> dict[str, str]:
    """`x-triptych-speed`, where anything was on: what the instances say, in one line."""
    known = "; ".join(dict.fromkeys(each for each in told if each))
    line = "".join(c for c in known if c.isascii() and c.isprintable())[:MAX_HEADER]
    return {"x-triptych-speed": line} if line else {}
