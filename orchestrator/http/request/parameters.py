"""The arguments of the served pipeline's own `__call__`: a JSON schema of each, and whether what a
request gives is one of its values. Pure; both say the same.

What the types of `Parameter` mean: str, bool, int, float, and list[…] of those.
"""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from orchestrator.http.errors import bad_field
from orchestrator.http.request.decoding import unknown
from orchestrator.http.request.forms import Texts
from orchestrator.http.request.ranges import SAFE, Range, range_of
from orchestrator.http.request.structured import is_empty_cell, parameter_at
from transfer.messages import ModelInfo, Parameter, Params

Schema = dict[str, Any]  # JSON Schema has no narrower type
Value = Any  # of Params; mypy knows no narrower name for it

MAX_TEXT = 32_000  # characters
MAX_ITEMS, MAX_INNER = 1000, 64  # of a list, and of a list in it
_WORDS = {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}


def schema_of(parameter: Parameter) -> Schema:
    """Draft 2020-12. Of what may be left out null is as well, and not in it."""
    known = range_of(parameter.name, parameter.default)
    options = [_schema(word, known) for word in parameter.type.split(" | ")]
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    return schema if parameter.default is None else {**schema, "default": parameter.default}


def accept(parameter: Parameter, value: Value) -> Value:
    """The value, as its type has it: 2.0 is a whole number. Raises a 400 that names the field."""
    words, known = parameter.type.split(" | "), range_of(parameter.name, parameter.default)
    for word in sorted(words, key=lambda word: word != type(value).__name__):
        fitting = _fit(word, value, known)
        if fitting is not None:
            return fitting
    wanted = " or ".join(_told(word, known) for word in words)
    message = f"`{parameter.name}`: {wanted}, not {_quoted(value)}"
    raise bad_field(parameter.name, message)


def from_texts(parameter: Parameter, texts: Texts) -> Value:
    """What a field of a form means, or several of one name, which are a list: JSON, where a text is
    not wanted."""
    words = parameter.type.split(" | ")
    if isinstance(texts, list):
        return texts if "list[str]" in words else [_value(text) for text in texts]
    return texts if "str" in words else _value(texts)


def _value(text: str) -> Value:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text  # which `accept` refuses


def accept_all(given: Mapping[str, Value], model: ModelInfo, own: frozenset[str]) -> Params:
    """What a request gives of the pipeline's arguments that are no fields of ours (`own`). Null is
    as left out. Raises a 400 that names the field."""
    known = {each.name: each for each in model.parameters}
    params: Params = {}
    for name, value in given.items():
        if name in own:
            raise bad_field(name, f"`{name}` is a field of its own; not in `parameters`")
        if name in model.media():
            message = f"`{name}`: a {model.media()[name]}, as a file of a form or a data: URL"
            raise bad_field(name, message)
        if value is None and is_empty_cell(name, model):
            params[name] = None
            continue
        parameter = known.get(name) or parameter_at(name, model)
        if parameter is None and "[" in name:
            raise unknown(name)
        if parameter is None:
            message = f"there is no field `{name[:64]}`; GET /v1/models/{model.name} lists them"
            raise bad_field(name[:64], message, "unknown_field")
        if value is not None:
            params[name] = accept(parameter, value)
    return params


def _schema(word: str, known: Range) -> Schema:
    if word.startswith("list["):
        item = _schema(word.removeprefix("list[").removesuffix("]"), known)
        inner = {"type": "array", "items": item, "maxItems": MAX_INNER}
        return {"type": "array", "items": {"anyOf": [item, inner]}, "maxItems": MAX_ITEMS}
    match word:
        case "str":
            return {"type": "string", "maxLength": MAX_TEXT}
        case "bool":
            return {"type": "boolean"}
        case "int":
            return {"type": "integer"} | _ends(_whole(known))
        case _:
            return {"type": "number"} | _ends(known)


def _ends(known: Range) -> Schema:
    ends = {"minimum": known.low, "maximum": known.high}
    return {name: end for name, end in ends.items() if end is not None}


def _whole(known: Range) -> Range:
    return Range(
        -SAFE if known.low is None else known.low, SAFE if known.high is None else known.high
    )


def _fit(word: str, value: Value, known: Range) -> Value | None:
    if word.startswith("list["):
        return _fit_list(word.removeprefix("list[").removesuffix("]"), value, known)
    match word, value:
        case ("bool", bool()):
            return value
        case ("str", str()):
            return value if len(value) <= MAX_TEXT else None
        case (_, bool()):
            return None
        case ("int", int() | float()) if value in _whole(known) and value == int(value):
            return int(value)
        case ("float", int() | float()) if value in known and abs(value) <= sys.float_info.max:
            return float(value)
    return None


def _fit_list(word: str, value: Value, known: Range) -> Value | None:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        return None
    items = []
    for item in value:
        if isinstance(item, list) and len(item) <= MAX_INNER:
            fitting: Value = [_fit(word, each, known) for each in item]
            fitting = None if None in fitting else fitting
        else:
            fitting = _fit(word, item, known)
        if fitting is None:
            return None
        items.append(fitting)
    return items


def _told(word: str, known: Range) -> str:
    if word.startswith("list["):
        each = _told(word.removeprefix("list[").removesuffix("]"), known)
        return f"a list of at most {MAX_ITEMS}, each {each}"
    if word in ("int", "float"):
        return f"{_WORDS[word]} {known}".rstrip()
    return _WORDS[word] + (f" of at most {MAX_TEXT} characters" if word == "str" else "")


def _quoted(value: Value) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:60] + "…"
