"""Which of a pipeline's errors are the request's fault."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import diffusers
import PIL
import torch

from roles.split.program import BadInput
from transfer.messages import Upload

_HOME, _PILLOW = Path(diffusers.__file__).parent, Path(PIL.__file__).parent
# where diffusers checks what it is asked for; an error of a model's own code is no bad input
_CHECKING = tuple(_HOME / name for name in ("pipelines", "modular_pipelines", "schedulers"))
_MEDIA = tuple(_HOME / name for name in ("image_processor.py", "video_processor.py"))
_OF_SIZES = re.compile(r"\bsizes? of tensor|\bshape\b|expanded size", re.I)  # torch's words
_OF_NOTHING = "tensor of 0 elements"
_STRENGTH = "strength"
_SIDES = {"height", "width"}
_LATENTS = ("hidden_states", "sample", "x")


def bad_input(
    error: Exception, params: Mapping[str, Any], media: Collection[str] = ()
) -> BadInput | None:
    """The BadInput that stands for an error which a pipeline raised before its first forward, or
    None if the error is something else. `media`: the arguments that take some, whether they were
    given or not: many that no pipeline can do without are optional in its signature."""
    if isinstance(error, BadInput):
        return error
    file = _raised_in(error.__traceback__)
    if file is None:
        return None
    message = " ".join(str(error).split())
    if type(error) is RuntimeError:
        if _STRENGTH in params and _OF_NOTHING in message:
            return _no_step()
        lists = {name: params[name] for name in media if isinstance(params.get(name), list)}
        counts = {name: len(given) for name, given in lists.items()}
        return _unfit(message, counts) if _checks(file) else None
    if not isinstance(error, ValueError | TypeError):
        return None
    if file in _MEDIA:
        lacking = [name for name in media if name not in params]
        missing = "missing, or wrong" if lacking else "wrong"
        not_given = f"; not given: {', '.join(lacking)}" if lacking else ""
        words = f"a picture or a film is {missing}{not_given} ({message})"
        suspects = lacking or [*media]
        return BadInput(words, suspects[0] if len(suspects) == 1 else None)
    if not _checks(file):
        return None
    param = _named(message, params)
    return BadInput(message, "size" if param in _SIDES else param)


def check_batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises BadInput for a forward of nothing: pipelines that make one picture of one divide their
    batch by the pictures that they were given, and go on with none."""
    latents = next((v for v in (*args, *map(kwargs.get, _LATENTS)) if v is not None), None)
    shape: Sequence[int] = getattr(latents, "shape", ())
    if len(shape) and shape[0] == 0:
        words = "this model begins with one picture; more were given than it makes"
        raise BadInput(words, "image")


def check_not_empty(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises BadInput for nothing to decode: a loop that had no step has made no latents."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if any(not value.numel() for value in given):
        raise _no_step()


def _no_step() -> BadInput:
    return BadInput("no step is left to do with so little strength", _STRENGTH)


def of_first_forward(error: Exception, uploads: Sequence[Upload]) -> BadInput | None:
    """The same for an error of a request's first forward: some pipelines make a batch of their
    pictures, and the model finds that it is another one than that of the texts."""
    if type(error) is not RuntimeError:
        return None
    return _unfit(" ".join(str(error).split()), Counter(each.param for each in uploads))


def _unfit(message: str, counts: Mapping[str, int]) -> BadInput | None:
    """Several pictures for a pipeline that takes one: it says so when it joins their tensors.
    `counts`: how many came for each argument."""
    several = [name for name, count in counts.items() if count > 1]
    if not several or not _OF_SIZES.search(message):
        return None
    told = " and ".join(f"{counts[name]} of {name}" for name in several)
    words = f"the pipeline cannot begin with {told} ({message})"
    return BadInput(words, several[0] if len(several) == 1 else None)


def _checks(file: Path) -> bool:
    return any(file.is_relative_to(home) for home in _CHECKING)


def _raised_in(traceback: TracebackType | None) -> Path | None:
    """The innermost file, but for Pillow's, which refuses what it is told to do with a picture."""
    found = None
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        found = found if file.is_relative_to(_PILLOW) else file
        traceback = traceback.tb_next
    return found


def _named(message: str, params: Collection[str]) -> str | None:
    """The first parameter of the request that the message speaks of."""
    words = re.findall(r"\w+", message.lower())
    return next((word for word in words if word in params), None)
