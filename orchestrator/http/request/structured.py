"""Arguments of the pipeline that are objects, or rows of pictures: taken apart, so that each part
has the name of its place (`transfer.places`); and what may stand there. Pure.

JSON has them as they are, `{"conditions": [{"frames": "data:…", "index": 0}]}`; a form names the
places itself, `-F conditions.0.frames=@first.png -F conditions.0.index=0`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from orchestrator.http.errors import bad_field
from orchestrator.http.request.forms import Texts
from transfer.messages import MediaField, MediaKind, ModelInfo, Parameter, Structure, Upload
from transfer.places import MOST, Place, field_at, picture_row, place

Field = Any  # any JSON


def apart(fields: Mapping[str, Field], model: ModelInfo) -> Iterator[tuple[str, Field]]:
    """The fields of a body, with a field for each part of what is an object or has rows. Raises a
    400 that names the field."""
    structures = {each.name: each for each in model.structures}
    for name, value in fields.items():
        if name in structures:
            yield from _objects(structures[name], value)
        elif model.media().get(name) == "picture" and _has_rows(value):
            yield from _rows(name, value)
        else:
            yield name, value


def understood(name: str, text: Texts) -> Field:
    """An object that stands in a form as JSON, or several. Raises a 400."""
    if isinstance(text, list):
        return [understood(name, each) for each in text]
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_field(name, f"`{name}` is not JSON: {error}", "invalid_json") from None


def _objects(one: Structure, value: Field) -> Iterator[tuple[str, Field]]:
    if value is None:
        return
    if one.several:
        objects = value if isinstance(value, list) else [value]
        if not 1 <= len(objects) <= MOST:
            raise bad_field(one.name, f"`{one.name}`: 1 to {MOST} objects")
        named = [(f"{one.name}.{number}", each) for number, each in enumerate(objects)]
    else:
        named = [(one.name, value)]
    for at, each in named:
        if not isinstance(each, dict):
            what = "objects" if one.several else "an object"
            raise bad_field(one.name, f"`{at}`: {what} with {_fields(one)}, not {each!r:.60}")
        yield from ((f"{at}.{field}", part) for field, part in each.items())


def _fields(one: Structure) -> str:
    return ", ".join([*(each.name for each in one.fields), *(each.name for each in one.media)])


def _has_rows(value: Field) -> bool:
    return isinstance(value, list) and any(isinstance(each, list) for each in value)


def _rows(name: str, rows: list[Field]) -> Iterator[tuple[str, Field]]:
    if not all(isinstance(row, list) and 1 <= len(row) <= MOST for row in rows):
        raise bad_field(name, f"`{name}`: rows of 1 to {MOST} pictures, null where there is none")
    if len(rows) > MOST:
        raise bad_field(name, f"`{name}`: {len(rows)} rows; at most {MOST}")
    for number, row in enumerate(rows):
        yield from ((f"{name}.{number}.{column}", cell) for column, cell in enumerate(row))


# ---------------------------------------------------------------- what may stand there


def parameter_at(name: str, model: ModelInfo) -> Parameter | None:
    """The plain value of an object that this names, under its whole name."""
    found = _at(name, model)
    return msgspec.structs.replace(found, name=name) if isinstance(found, Parameter) else None


def kinds_at(name: str, model: ModelInfo) -> list[MediaKind]:
    """The kinds of media that an argument takes, or a part of one; none: it takes no media."""
    if name in model.media():
        return [model.media()[name]]
    at = _place(name)
    if at is not None and picture_row(at, model):
        return ["picture"]
    found = _at(name, model)
    return found.kinds if isinstance(found, MediaField) else []


def is_empty_cell(name: str, model: ModelInfo) -> bool:
    """Whether null stands for a place in a row without a picture."""
    at = _place(name)
    return at is not None and picture_row(at, model)


def _at(name: str, model: ModelInfo) -> Parameter | MediaField | None:
    at = _place(name)
    return None if at is None else field_at(at, model.structures)


def _place(name: str) -> Place | None:
    try:
        return place(name)
    except ValueError:
        return None


def check(params: Iterable[str], uploads: Iterable[Upload], model: ModelInfo) -> None:
    """Raises a 400 that names what is missing: an object that a request has to bring, one that
    numbers leave out, a place in a row, or a field without a default."""
    names = [*params, *(upload.param for upload in uploads)]
    places = [at for name in names if (at := _place(name)) is not None]
    known = {each.name: each for each in model.structures}
    for name, one in known.items():
        own = {at for at in places if at.argument == name}
        if one.required and not own:
            raise _missing(name, f"an object with {_fields(one)}")
        for number in _numbers(name, own) if one.several else [()] if own else []:
            _check_object(one, number, own)
    for argument in dict.fromkeys(at.argument for at in places if at.argument not in known):
        cells = {at for at in places if at.argument == argument}
        for row in _numbers(argument, cells):
            below = {
                Place(f"{argument}.{row[0]}", at.path[1:]) for at in cells if at.path[0] in row
            }
            list(_numbers(f"{argument}.{row[0]}", below))


def _numbers(name: str, places: set[Place]) -> Iterator[tuple[int, ...]]:
    """0, 1, … of what stands there."""
    found = {at.path[0] for at in places}
    for number in range(len(found)):
        if number not in found:
            raise _missing(f"{name}.{number}", "numbers begin with 0 and leave none out")
        yield (number,)


def _check_object(one: Structure, number: tuple[int, ...], own: set[Place]) -> None:
    parts: list[Parameter | MediaField] = [*one.fields, *one.media]
    for each in parts:
        at = Place(one.name, (*number, each.name))
        if each.required and at not in own:
            raise _missing(str(at), f"a {one.type} has to have it")


def _missing(name: str, why: str) -> Exception:
    return bad_field(name, f"`{name}` is missing: {why}", "missing_field")
