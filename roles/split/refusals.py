"""Which of a pipeline's errors are the request's fault."""

import re
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

import diffusers

from roles.split.program import BadInput

_HOME = Path(diffusers.__file__).parent
# where diffusers checks what it is asked for; an error of a model's own code is no bad input
_CHECKING = tuple(_HOME / name for name in ("pipelines", "modular_pipelines", "schedulers"))
_SIDES = {"height", "width"}


def bad_input(error: Exception, params: Collection[str]) -> BadInput | None:
    """The BadInput that stands for an error which a pipeline raised before its first forward, or
    None if the error is something else."""
    if isinstance(error, BadInput):
        return error
    if not isinstance(error, ValueError | TypeError) or not _from_checks(error.__traceback__):
        return None
    message = " ".join(str(error).split())
    param = _named(message, params)
    return BadInput(message, "size" if param in _SIDES else param)


def _from_checks(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = Path(traceback.tb_frame.f_code.co_filename)
    return any(file.is_relative_to(home) for home in _CHECKING)


def _named(message: str, params: Collection[str]) -> str | None:
    """The first parameter of the request that the message speaks of."""
    words = re.findall(r"\w+", message.lower())
    return next((word for word in words if word in params), None)
