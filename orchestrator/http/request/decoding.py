"""From bodies and forms to the Structs of `schema`: a wrong field becomes a 400 that names it."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from orchestrator.http.errors import ApiError, bad_field
from orchestrator.http.request.forms import Texts
from orchestrator.http.request.schema import ImageRequest

T = TypeVar("T")
Field = Any  # any JSON

_JSON_FIELDS = {"loras", "step_cache", "parameters"}
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$")
_AT = re.compile(r"^(.*) - at `\$\.(\w+)[^`]*`$", re.DOTALL)
_CHOICES = {
    name: msgspec.json.schema(ImageRequest.__annotations__[name])["anyOf"][0]["enum"]
    for name in (
        "quality",
        "response_format",
        "output_format",
        "background",
        "moderation",
        "style",
        "priority",
    )
} | {"type": ["image", "video", "audio"]}


def decode(body: bytes, kind: type[T]) -> T:
    """The request in `body`. Raises a 400 that names the field which is unknown or wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_field(None, f"the body is not JSON: {error}", "invalid_json") from None


def decode_open(body: bytes, kind: type[T]) -> tuple[T, dict[str, Field]]:
    """As `decode`, with the fields that are none of ours beside it: arguments of the pipeline,
    perhaps."""
    try:
        return decode(body, kind), {}
    except ApiError as error:
        if error.code != "unknown_field":
            raise
    told = decode(body, dict[str, Field])
    fields = {name: told.pop(name) for name in names_of(kind) if name in told}
    return _converted(fields, kind), told


def names_of(kind: type[T]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(kind))  # type: ignore[arg-type]


def from_fields(fields: Mapping[str, Texts], kind: type[T]) -> T:
    """The request in the fields of a form: texts become numbers and truth values where those are
    wanted; `loras` and `step_cache` are JSON. Raises a 400 that names the field which is wrong."""
    told: dict[str, object] = dict(fields)
    for name in _JSON_FIELDS & fields.keys():
        text = fields[name]
        if isinstance(text, list):
            continue  # which is refused below
        try:
            told[name] = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise bad_field(name, f"`{name}` is not JSON: {error}", "invalid_json") from None
    return _converted(told, kind, strict=False)


def unknown(name: str) -> ApiError:
    if "[" in name:  # as the openai package writes objects into forms, so that they cannot be told
        flat = f"`{name[:64]}`: objects of a form are written as name.0.field, or as JSON in `name`"
        return bad_field(name[:64], flat, "unknown_field")
    return bad_field(name[:64], f"there is no field `{name[:64]}`", "unknown_field")


def _converted(told: Mapping[str, object], kind: type[T], strict: bool = True) -> T:
    try:
        return msgspec.convert(told, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None


def explain(message: str) -> ApiError:
    """A 400 of what msgspec says of a body."""
    if found := _AT.match(message):  # first: within a field, another one may be unknown, or missing
        return bad_field(found[2], f"`{found[2]}`: {_expectation(found[1], found[2])}")
    if found := _UNKNOWN.match(message):
        return unknown(found[1])
    if found := _MISSING.match(message):
        return bad_field(found[1], f"`{found[1]}` is missing", "missing_field")
    return bad_field(None, f"the body: {message[:200]}")


def _expectation(message: str, name: str) -> str:
    if name in _CHOICES:
        return "one of " + ", ".join(_CHOICES[name])
    if name == "seconds":
        return 'a number of seconds, as 4 or "4"'
    return message[0].lower() + message[1:200].replace("`", "")
