"""From what a client asked to what the cluster is given: one `Inputs` per picture.

Pure: everything that is refused at the door is refused here, before anything is queued.
"""

import secrets
from collections.abc import Mapping, Sequence

import msgspec

from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.options import HttpOptions
from orchestrator.http.request import structured
from orchestrator.http.request.kind import MADE
from orchestrator.http.request.loras import loras_of
from orchestrator.http.request.parameters import accept_all
from orchestrator.http.request.schema import (
    MAX_SEED,
    OWN_FIELDS,
    SETTABLE,
    EditRequest,
    ImageRequest,
    JobRequest,
)
from orchestrator.http.request.size import check_size, requested_size
from orchestrator.http.request.speed import step_cache
from transfer.actions import Adapter
from transfer.messages import Inputs, ModelInfo, Output, Params, Upload

FORMATS: dict[str, tuple[str, ...]] = {
    "image": ("png", "jpeg", "webp"),
    "video": ("mp4", "webp", "zip"),
    "audio": ("wav", "flac"),
}
ECHOED_QUALITY = {"low", "medium", "high", "xhigh", "max"}  # what the SDK's reply model knows


class Plan(msgspec.Struct, frozen=True):
    """`inputs[i]` has the seed `seed + i`; each is a request of its own. `previews`: how many of
    each picture are to be streamed, or shown in the job's events. `edit`: it was asked for as one,
    and its events are called so. `model`: whose instances compute it."""

    inputs: list[Inputs]
    seed: int
    output_format: str
    quality: str
    as_url: bool
    stream: bool = False
    previews: int = 0
    edit: bool = False
    model: str = ""


def make_plan(
    request: ImageRequest,
    model: ModelInfo,
    options: HttpOptions,
    adapters: Mapping[str, Adapter] | None = None,
    uploads: Sequence[Upload] = (),
) -> Plan:
    """Of a request for this model (`choice.chosen`). Raises `ApiError`: 400 for a wrong field, 422
    for one that its pipeline does not take."""
    _check_stream(request)
    others = accept_all(request.parameters or {}, model, OWN_FIELDS)
    params = request.pipeline_params()
    output = _output(request, model, _fps_of_file(params, model))
    size = requested_size(request)
    params |= {name: side for name, side in size._asdict().items() if side is not None}
    _check_taken(list(params), model, request)
    for name in others.keys() & params.keys():
        raise bad_field(name, f"`{name}` contradicts another field: give one of them")
    params |= others
    params |= _sampling_rates(params, model, uploads)
    _check_needed(params, model, uploads)
    check_size(request, size, model, options)
    cache = step_cache(request, model)
    seed, loras = _seed(request), loras_of(request, adapters or {})
    exact, priority = bool(request.exact), request.priority or "normal"
    return Plan(
        inputs=[
            Inputs(params, seed + i, output, exact, cache, priority, loras, [*uploads])
            for i in range(request.n or 1)
        ],
        seed=seed,
        output_format=output.format,
        quality=request.quality if request.quality in ECHOED_QUALITY else "high",
        as_url=request.response_format == "url",
        stream=bool(request.stream),
        previews=_previews(request, model),
        edit=isinstance(request, EditRequest),
        model=model.name,
    )


def _check_stream(request: ImageRequest) -> None:
    if request.stream and request.response_format == "url":
        message = "`response_format`: streamed pictures come as b64_json; leave it out"
        raise bad_field("response_format", message)


def _previews(request: ImageRequest, model: ModelInfo) -> int:
    """None of videos and sounds: decoding one takes too long to do it for a look. A stream of them
    has its last event; a job that asks for what never comes is refused."""
    is_job = isinstance(request, JobRequest)
    asked = (request.partial_images or 0) if request.stream or is_job else 0
    if model.modality == "image":
        return asked
    if asked and is_job:
        made = f"which makes {MADE[model.modality]}"
        message = f"`partial_images`: there are none of {model.name}, {made}; leave it out"
        raise unsupported("partial_images", message)
    return 0


def _fps_of_file(params: Params, model: ModelInfo) -> float | None:
    """What pipelines call otherwise, or do not know, is said in their words, or to the file."""
    if model.modality != "video" or "fps" not in params:
        return None
    taken = {parameter.name for parameter in model.parameters}
    if "fps" in taken:
        return None
    fps = params.pop("fps")
    if "frame_rate" in taken:
        params["frame_rate"] = fps
        return None
    assert isinstance(fps, int | float)
    return float(fps)


def _output(request: ImageRequest, model: ModelInfo, fps: float | None) -> Output:
    formats = FORMATS[model.modality]
    format = request.output_format or formats[0]
    if format not in formats:
        possible = ", ".join(formats)
        makes = f"`{model.name}` makes {MADE[model.modality]}, as one of {possible}"
        raise unsupported("output_format", f"`output_format`: {makes}")
    quality = request.output_compression
    if quality is not None and format not in ("jpeg", "webp"):
        raise bad_field("output_compression", "`output_compression` is for jpeg and webp only")
    return msgspec.convert({"format": format, "quality": quality, "fps": fps}, Output)


def _check_taken(names: list[str], model: ModelInfo, request: ImageRequest) -> None:
    taken = {parameter.name for parameter in model.parameters}
    for name in names:
        if name not in taken:
            field = name if getattr(request, name) is not None else "size"
            message = f"`{field}`: {model.pipeline}, which serves `{model.name}`, takes no `{name}`"
            raise unsupported(field, message)


def _sampling_rates(params: Params, model: ModelInfo, uploads: Sequence[Upload]) -> Params:
    """Of the sounds that came with it, where the pipeline wants to be told: the model's own, to
    which they are resampled. Raises a 400 for another."""
    if model.sample_rate is None:
        return {}
    found: Params = {}
    for parameter in model.parameters:
        sound, ends, _ = parameter.name.partition("_sampling_rate")
        if not ends or not any(e.kind == "sound" and e.param.startswith(sound) for e in uploads):
            continue
        if params.get(parameter.name, model.sample_rate) != model.sample_rate:
            message = f"sounds are resampled to {model.sample_rate} Hz; leave it out"
            raise bad_field(parameter.name, f"`{parameter.name}`: {message}")
        found[parameter.name] = model.sample_rate
    return found


def _check_needed(params: Params, model: ModelInfo, uploads: Sequence[Upload]) -> None:
    for parameter in model.parameters:
        needed = parameter.required or parameter.name == "prompt"
        if needed and parameter.name not in params and parameter.name not in OWN_FIELDS - SETTABLE:
            raise bad_field(parameter.name, f"`{parameter.name}` is missing", "missing_field")
    given = {upload.param for upload in uploads}
    for name in model.needs:
        if name not in given and not any(each.startswith(f"{name}.") for each in given):
            kind = model.media()[name]
            message = f"`{name}` is missing: {model.name} needs a {kind}, as a file of a form"
            raise bad_field(name, message, "missing_field")
    structured.check(params, uploads, model)


def _seed(request: ImageRequest) -> int:
    """A drawn seed has 32 bits: torch's CPU generator reads no more of it."""
    if request.seed is None:
        return secrets.randbits(32)
    if request.seed + (request.n or 1) - 1 > MAX_SEED:
        raise bad_field("seed", f"`seed`: seed + n - 1 must not exceed {MAX_SEED}")
    return request.seed
