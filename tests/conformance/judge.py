"""What holds of one case: its pipeline built, saved, loaded by role, run, and compared."""

import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from roles.split.given import MediaArgument, media_arguments
from roles.split.loading import load
from roles.split.program import Call, Unsplittable
from tests.conformance import modular
from tests.conformance.case import Case
from tests.support.splitting import Arrays, arrays, drive, same, through_roles
from transfer.messages import Inputs

ROLES = ("encoder", "denoiser", "decoder")
SEED = 11


@dataclass(frozen=True)
class Verdict:
    """`exact`: the plain pipeline's bits came out. `how`: "split" or, where the model cannot be
    split, "monolithic". `why`: the reason of whatever does not hold."""

    exact: bool
    how: str = "split"
    why: str = ""


def judge(case: Case, dtype: str = "float32") -> Verdict:
    """Builds and runs it; never raises for what the pipeline or a role does."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        torch.manual_seed(0)
        pipeline = case.build()
        assert type(pipeline).__name__ == case.pipeline
        kind = type(pipeline)
        modular.save(pipeline, folder)
        known = plain(kind, folder, case.arguments(), dtype)
        try:
            return _split(kind, case, folder, dtype, known)
        except Unsplittable as error:
            return _whole(kind, case, folder, dtype, known, error.reason)
        except Exception:
            return Verdict(False, why=traceback.format_exc())


def plain(kind: Any, folder: Path, arguments: Mapping[str, Any], dtype: str) -> Arrays:
    """What a diffusers user gets: all pictures, frames and sounds."""
    if modular.is_modular(kind):
        made = modular.plain(folder, arguments, dtype, SEED)
        return list(_arrays(made))
    pipeline = kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(**arguments, generator=torch.Generator("cpu").manual_seed(SEED))
    found: Arrays = []
    for name in output.keys():  # noqa: SIM118 (a BaseOutput iterates over its values)
        found += list(_arrays(output[name]))
    return found


def _arrays(value: Any) -> Any:
    """All arrays in what a pipeline gave, in order."""
    if isinstance(value, torch.Tensor):
        yield value.float().cpu().numpy()
    elif isinstance(value, (Image.Image, np.ndarray)):
        yield np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _arrays(one)


def call(kind: Any, arguments: Mapping[str, Any]) -> Call:
    """The request to a pipeline of that class: media apart from plain values."""
    is_modular = modular.is_modular(kind)
    known = media_arguments(modular.call_signature(kind) if is_modular else kind.__call__)
    media = {n: _several(known[n], value) for n, value in arguments.items() if n in known}
    params = {name: value for name, value in arguments.items() if name not in known}
    return Call("r", Inputs(params=params, seed=SEED), media)


def _several(argument: MediaArgument, value: Any) -> list[Any]:
    return list(value) if argument.kind == "picture" and isinstance(value, list) else [value]


def _split(kind: Any, case: Case, folder: Path, dtype: str, known: Arrays) -> Verdict:
    programs = [load(folder, (role,), dtype) for role in ROLES]
    made = arrays(through_roles(*programs, call(kind, case.arguments())))
    return Verdict(same(made, known), why=difference(made, known))


def _whole(kind: Any, case: Case, folder: Path, dtype: str, known: Arrays, reason: str) -> Verdict:
    try:
        program = load(folder, ("monolithic",), dtype)
        made = arrays(drive(program.generate(call(kind, case.arguments()))))
    except Exception:
        return Verdict(False, "monolithic", f"{reason}\n{traceback.format_exc()}")
    return Verdict(same(made, known), "monolithic", difference(made, known) or reason)


def difference(made: Arrays, known: Arrays) -> str:
    """Empty if they are the same, bit for bit."""
    if same(made, known):
        return ""
    shapes = [each.shape for each in made], [each.shape for each in known]
    if shapes[0] != shapes[1]:
        return f"shapes {shapes[0]} for {shapes[1]}"
    apart = max(
        float(np.abs(a.astype(float) - b.astype(float)).max())
        for a, b in zip(made, known, strict=True)
    )
    return f"the largest difference is {apart:g}"
