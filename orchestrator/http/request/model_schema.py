"""A JSON schema of what a client may ask of the served model, so that it can draw a form."""

from functools import cache
from typing import Any

import msgspec

from orchestrator.http.request.parameters import Schema, schema_of
from orchestrator.http.request.plan import FORMATS
from orchestrator.http.request.schema import OWN_FIELDS, SETTABLE, JobRequest
from orchestrator.http.request.size import LARGEST, SMALLEST
from transfer.messages import MediaField, MediaKind, ModelInfo, Parameter, Structure
from transfer.places import MOST

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MEDIA: dict[MediaKind, str] = {
    "picture": "PNG, JPEG or WebP",
    "film": "MP4, WebM or Matroska; its frames as they are, its sound is left",
    "sound": "WAV, FLAC, MP3, Ogg, or the first sound of an MP4 or WebM",
}
# Of no meaning for a job, or a second way to say what other fields say.
_LEFT_OUT = {"stream", "response_format", "parameters"}


def request_schema(model: ModelInfo, usual: bool = True) -> Schema:
    """Draft 2020-12, of the body of `POST /v1/jobs`, whose fields the other addresses share. What
    it permits, the server understands; null is as left out, and not in it.

    `x-triptych` of a field: `parameter` (of the pipeline's own `__call__`), `media`, with the kind
    in `x-media`, `structure` (an argument that is an object, or a list of them), or `request`.
    `usual`: a request that names no model means this one.
    """
    fields, definitions = _fields()
    taken = {parameter.name: parameter for parameter in model.parameters}
    properties: Schema = {}
    for name, schema in fields.items():
        if name in SETTABLE:
            if name in taken:
                default = taken[name].default
                known = {} if default is None else {"default": default}
                properties[name] = {**schema, **known, "x-triptych": "parameter"}
        elif name not in _LEFT_OUT:
            properties[name] = {**schema, "x-triptych": "request"}
    _narrow(properties, model)
    if usual:
        properties["model"] |= {"enum": [model.name, "default"], "default": model.name}
    else:
        properties["model"] |= {"const": model.name}
    for parameter in model.parameters:
        if parameter.name not in OWN_FIELDS:
            properties[parameter.name] = schema_of(parameter) | {"x-triptych": "parameter"}
    properties |= {name: _media(kind) for name, kind in model.media().items()}
    properties |= {each.name: _structure(each) for each in model.structures}
    needed = [p.name for p in model.parameters if p.required or p.name == "prompt"]
    needed += [] if usual else ["model"]
    needed += [each.name for each in model.structures if each.required]
    return {
        "$schema": DIALECT,
        "title": f"{model.name} ({model.pipeline})",
        "description": "The body of POST /v1/jobs.",
        "type": "object",
        "properties": properties,
        "required": [name for name in (*needed, *model.needs) if name in properties],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _narrow(properties: Schema, model: ModelInfo) -> None:
    """Fields of requests to what this model has of them."""
    formats = FORMATS[model.modality]
    properties["output_format"] |= {"enum": [*formats], "default": formats[0]}
    properties["type"] |= {"enum": [model.modality]}
    side = {"minimum": SMALLEST, "maximum": LARGEST, "multipleOf": model.size_multiple}
    for name, usual in zip(("width", "height"), model.default_size or (None, None), strict=True):
        if name in properties:
            properties[name] |= side | ({} if usual is None else {"default": usual})
    if "width" not in properties or "height" not in properties:
        del properties["size"]
    if model.modality == "video":  # where the pipeline has no word for it, the file has
        fields, _ = _fields()
        usual_fps = {} if model.fps is None else {"default": model.fps}
        properties["fps"] = {**fields["fps"], **usual_fps, "x-triptych": "request"}
    if model.modality != "image" or not model.splittable:
        del properties["partial_images"]
    if model.modality != "image":
        properties.pop("output_compression")
    if not model.step_caches:
        del properties["step_cache"]


def _media(kind: MediaKind) -> Schema:
    """A data: URL, or several, or rows of them; in a form, files under the same name."""
    one = _url(kind)
    if kind != "picture":
        return {**one, "x-triptych": "media", "x-media": kind}
    cell = {"anyOf": [one, {"type": "null"}]}
    rows = _array(_array(cell), "Rows, for a pipeline that takes a grid; null has no picture.")
    return {"anyOf": [one, _array(one), rows], "x-triptych": "media", "x-media": kind}


def _url(kind: MediaKind) -> Schema:
    return {
        "type": "string",
        "format": "uri",
        "pattern": "^data:[^,]*;base64,",
        "description": f"A {kind} as a data: URL in base64: {_MEDIA[kind]}.",
    }


def _array(items: Schema, description: str | None = None) -> Schema:
    told = {} if description is None else {"description": description}
    return {"type": "array", "items": items, "minItems": 1, "maxItems": MOST, **told}


def _structure(structure: Structure) -> Schema:
    """An object, or a list of them. In a form, `conditions.0.strength` is a field of the first."""
    parts: list[Parameter | MediaField] = [*structure.fields, *structure.media]
    one = {
        "type": "object",
        "title": structure.type,
        "properties": {each.name: schema_of(each) for each in structure.fields}
        | {each.name: _part(each) for each in structure.media},
        "required": [each.name for each in parts if each.required],
        "additionalProperties": False,
    }
    schema = {"anyOf": [one, _array(one)]} if structure.several else one
    return {**schema, "x-triptych": "structure"}


def _part(field: MediaField) -> Schema:
    """What may be a film or a picture may also be the frames of a film, one by one."""
    options = [_url(kind) for kind in field.kinds]
    if len(options) > 1:
        options.append(_array(_url("picture")))
    return options[0] if len(options) == 1 else {"anyOf": options}


@cache
def _fields() -> tuple[Schema, Schema]:
    """Of a job's request: its fields, without null, and what they refer to."""
    (_, components) = msgspec.json.schema_components((JobRequest,), ref_template="#/$defs/{name}")
    properties = components.pop("JobRequest")["properties"]
    return {name: _plain(schema) for name, schema in properties.items()}, {
        name: _deep(each) for name, each in components.items()
    }


def _deep(definition: Schema) -> Schema:
    properties = {name: _plain(each) for name, each in definition["properties"].items()}
    return {**definition, "properties": properties}


def _plain(schema: Schema) -> Schema:
    """Null and the default null are for clients that send every field."""
    kept: dict[str, Any] = {name: value for name, value in schema.items() if name != "default"}
    options = [each for each in kept.pop("anyOf", []) if each.get("type") != "null"]
    if len(options) == 1:
        return {**options[0], **kept}
    return {**kept, "anyOf": options} if options else kept
