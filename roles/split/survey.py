"""What a model supports, found out without its weights: from its configs, and from its pipeline run
on skeletons.

The bytes that cross between roles are those of a real request: the pipeline's own program runs as
in the roles, at the size that it has by default, with modules on torch's meta device, whose results
have shapes and no numbers (`imagined`). That takes seconds whatever the model's size.
"""

import os
from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from PIL import Image

from roles.origins import NOTHING, Origins
from roles.parallel import Parallel
from roles.split.classic import ClassicProgram
from roles.split.denoising import step_cache
from roles.split.face import StandIn
from roles.split.files.components import DType, brief, component_class, is_module, part_of
from roles.split.files.folder import ComponentEntry, Folder, find
from roles.split.imagined import Imagined
from roles.split.loading import outline
from roles.split.modular.program import ModularProgram
from roles.split.parallel import context
from roles.split.program import BadInput, Call, Program
from roles.split.request.given import MediaArgument
from transfer.messages import Inputs, ModelInfo, Parameter, Params, Speed
from transfer.payload import pack

PICTURE = 512  # pixels a side, where the pipeline names no size
STEPS = 2


class Component(msgspec.Struct):
    """A component with weights. `role`: who computes with it; `nbytes`: of its weights in memory,
    as loaded with this dtype; None of an optional one that the pipeline leaves out."""

    name: str
    kind: str
    role: str
    nbytes: int | None


class Media(msgspec.Struct):
    """An argument that is made of media. `kind`: picture, film or sound."""

    name: str
    kind: str
    required: bool
    several: bool


class Crossing(msgspec.Struct):
    """What goes from one role to the next for one request. `names`: what it is made of; `nbytes`:
    of the payload; None, with `why_not`, if that could not be found out."""

    sender: str
    receiver: str
    names: list[str]
    nbytes: int | None = None
    why_not: str | None = None


class Survey(msgspec.Struct):
    """All that `triptych models` prints. `request`: what was asked for the sizes of `crossings`.
    `lora`, `ulysses`: why it has none, or cannot divide its tokens among ranks; None if it can."""

    info: ModelInfo
    dtype: str
    components: list[Component]
    media: list[Media]
    request: Params
    crossings: list[Crossing]
    lora: str | None
    ulysses: str | None
    step_caches: list[str]


def survey(
    model: str | os.PathLike[str], dtype: DType = "auto", origins: Origins = NOTHING
) -> Survey:
    """Loads no weights. Raises ModelError with one sentence for people."""
    torch.set_grad_enabled(False)
    folder = find(model, origins)
    program = outline(folder, dtype)
    pipeline = program.pipeline
    denoisers = program.of_part("denoiser")
    request = _request(program.info)
    return Survey(
        info=program.info,
        dtype=dtype,
        components=[_component(folder, entry, pipeline) for entry in _modules(folder)],
        media=[_media(name, one) for name, one in program.media.items()],
        request=request,
        crossings=_usual(program, request) if program.info.splittable else [],
        lora=_no_lora(pipeline, denoisers),
        ulysses=_no_ulysses(denoisers),
        step_caches=_step_caches(pipeline, denoisers),
    )


# ---------------------------------------------------------------- what it is made of


def _modules(folder: Folder) -> list[ComponentEntry]:
    return [entry for entry in folder.components if is_module(component_class(entry))]


def _component(folder: Folder, entry: ComponentEntry, pipeline: Any) -> Component:
    part = pipeline.components.get(entry.name)
    nbytes = None if part is None else sum(each.nbytes for each in _skeleton(part).parameters())
    return Component(entry.name, entry.class_name, part_of(entry.name), nbytes)


def _media(name: str, one: MediaArgument) -> Media:
    return Media(name, one.kind, one.required, one.several)


def _no_lora(pipeline: Any, denoisers: Mapping[str, Any]) -> str | None:
    if not hasattr(pipeline, "load_lora_weights"):
        return f"diffusers loads no LoRA into a {type(pipeline).__name__}"
    loadable = set(getattr(pipeline, "_lora_loadable_modules", ()))
    return None if loadable & denoisers.keys() else "its adapters change nothing that denoises"


def _no_ulysses(denoisers: Mapping[str, Any]) -> str | None:
    parts = list(map(_skeleton, denoisers.values()))
    reasons = (context.why_not(part, Speed(), Parallel(ulysses=2)) for part in parts)
    return next((reason for reason in reasons if reason), None)


def _step_caches(pipeline: Any, denoisers: Mapping[str, Any]) -> list[str]:
    parts = list(map(_skeleton, denoisers.values()))
    kinds = [kind for part in parts for kind in step_cache.supported(pipeline, part)]
    return list(dict.fromkeys(kinds))


# ---------------------------------------------------------------- what crosses


def _request(info: ModelInfo) -> Params:
    """A usual one: what the pipeline does not require keeps its default."""
    usual: Params = {"prompt": "a lighthouse on a cliff at dusk", "num_inference_steps": STEPS}
    known = {parameter.name: parameter for parameter in info.parameters}
    params: Params = {name: value for name, value in usual.items() if name in known}
    for name, parameter in known.items():
        if parameter.required and name not in params:
            params[name] = _value(parameter)
    return params


def _value(parameter: Parameter) -> Any:
    """Something of the type that a required parameter has."""
    first = parameter.type.partition(" ")[0]
    return {"bool": False, "float": 1.0, "int": 1, "str": "a lighthouse"}.get(first, [])


def _usual(program: ClassicProgram | ModularProgram, params: Params) -> list[Crossing]:
    try:
        call = Call("survey", Inputs(params, 0), pictures(program))
    except BadInput as error:
        return _untold(_hops(), error)
    return crossings(program, call)


def crossings(program: ClassicProgram | ModularProgram, call: Call) -> list[Crossing]:
    """What would cross for this request. `program` needs no weights."""
    found = _hops()
    try:
        everywhere = program.with_parts(_imagined(program))
        records = everywhere.encode(call)
        _note(found[0], records)
        _note(found[1], _denoised(everywhere, call, records))
    except Exception as error:
        return _untold(found, error)
    return found


def _hops() -> list[Crossing]:
    return [Crossing("encoder", "denoiser", []), Crossing("denoiser", "decoder", [])]


def _untold(found: list[Crossing], error: Exception) -> list[Crossing]:
    missing = next(each for each in found if each.nbytes is None)
    missing.why_not = f"it cannot be told without weights: {brief(error)}"
    return found


def _note(crossing: Crossing, payload: Any) -> None:
    crossing.names = list(dict.fromkeys(_names(payload)))
    crossing.nbytes = pack(payload).nbytes


def _names(payload: Any) -> list[str]:
    """What a payload is made of: of a modular pipeline the names of its state; else the methods
    whose results it has, and what is to be decoded."""
    if "values" in payload:
        return sorted(payload["values"])
    if "decodes" in payload:
        return [f"{entry[0]}.decode" for entry in payload["decodes"]]
    return [*(entry[0] for entry in payload["kept"]), *payload.get("media", ())]


def pictures(program: ClassicProgram | ModularProgram) -> dict[str, list[Any]]:
    """Media that the pipeline does not go without: gray, of the size that it makes."""
    width, height = default_size(program.info)
    found: dict[str, list[Any]] = {}
    for name, one in program.media.items():
        if not (one.required or name in ("image", "video")):
            continue
        if one.kind == "sound":
            raise BadInput(f"{name} is a sound", name)
        mode = "L" if "mask" in name else "RGB"
        count = 1 if one.kind == "picture" else 9
        found[name] = [Image.new(mode, (width, height)) for _ in range(count)]
    return found


def default_size(info: ModelInfo) -> tuple[int, int]:
    """(width, height) of the pictures that come with a request."""
    return info.default_size or (PICTURE, PICTURE)


def _imagined(program: ClassicProgram | ModularProgram) -> dict[str, Any]:
    """All modules, saying zeros of the right shapes."""
    parts = [program.of_part(part) for part in ("encoder", "denoiser", "decoder")]
    return {
        name: Imagined(_skeleton(module), program.device)
        for modules in parts
        for name, module in modules.items()
    }


def _denoised(program: Program, call: Call, records: Any) -> Any:
    """What a denoiser gives whose transformer says zeros."""
    denoising = program.denoise(call, records)
    denoising.start()
    while not denoising.done:
        denoising.resume([each.run() for each in denoising.pending])
    return denoising.result()


def _skeleton(part: Any) -> Any:
    return part.component if isinstance(part, StandIn) else part
