"""Arguments of a pipeline's `__call__` that are objects, told by their annotations: dataclasses
with pictures, films and plain values in them, alone or in a list; and rows of pictures.

A request names their parts by where they stand (`transfer.places`); here they become what the
pipeline's own `__call__` takes.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roles.split.program import BadInput, Call
from roles.split.request import given, inputs
from roles.split.request.given import MediaArgument, media_kind
from roles.split.request.inputs import Argument
from transfer.messages import MediaField, MediaKind, Structure
from transfer.places import Place, is_cell, place

_LISTED = re.compile(r"(?i)list\[[^\[\]]*\]")


@dataclass(frozen=True)
class Structured:
    """One such argument. `kind`: the class; `several`: it is a list of them; `media`: the kinds of
    what its fields of media take, `needed` those fields without a default."""

    name: str
    kind: type[Any]
    several: bool
    required: bool
    fields: Mapping[str, Argument]
    media: Mapping[str, list[MediaKind]]
    needed: frozenset[str]

    def describe(self) -> Structure:
        return Structure(
            name=self.name,
            type=self.kind.__name__,
            several=self.several,
            required=self.required,
            fields=[each.describe() for each in self.fields.values()],
            media=[MediaField(n, kinds, n in self.needed) for n, kinds in self.media.items()],
        )

    def make(self, values: Mapping[str, Any], at: str) -> Any:
        """The object, of its fields. Raises BadInput that names the field."""
        for name in values.keys() - self.media.keys() - self.fields.keys():
            raise BadInput(f"a {self.kind.__name__} has no {name}", f"{at}.{name}")
        required = {name for name, field in self.fields.items() if field.required}
        for name in sorted(self.needed | required):
            if values.get(name) is None:
                raise BadInput(f"{at}.{name} is missing", f"{at}.{name}")
        plain = {n: self._plain(n, v, at) for n, v in values.items() if n in self.fields}
        return self.kind(**plain, **{n: v for n, v in values.items() if n in self.media})

    def _plain(self, name: str, value: Any, at: str) -> Any:
        try:
            return self.fields[name].accept(value)
        except BadInput as error:
            raise BadInput(f"{at}.{error}", f"{at}.{name}") from error


def structures(call: Callable[..., Any]) -> dict[str, Structured]:
    """Those of a pipeline's `__call__`. One that has a field without a default, which no request
    could give, is none of them."""
    hints, found = inputs.hints_of(call), {}
    for name, parameter in inspect.signature(call).parameters.items():
        several, kind = _class_in(hints.get(name))
        if kind is not None:
            made = _structured(name, kind, several, parameter.default is parameter.empty)
            if made is not None:
                found[name] = made
    return found


def _class_in(hint: Any) -> tuple[bool, type[Any] | None]:
    """The dataclass in an annotation, and whether a list of them is taken."""
    several, kind = False, None
    for option in inputs.options_of(hint):
        listed = typing.get_origin(option) is list
        inner = typing.get_args(option)[0] if listed and typing.get_args(option) else option
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            several, kind = several or listed, inner
    return several, kind


def _structured(name: str, kind: type[Any], several: bool, required: bool) -> Structured | None:
    """None if it cannot be made of what requests have."""
    named = {k: v for k, v in inspect.signature(kind).parameters.items()}
    films = any(media_kind(each, False) == "film" for each in named.values())
    media = {k: _kinds(each, films) for k, each in named.items() if media_kind(each, films)}
    fields = {k: v for k, v in inputs.arguments_of(kind, named).items() if k not in media}
    needed = {k for k, each in named.items() if each.default is each.empty}
    if needed - media.keys() - fields.keys():
        return None
    return Structured(
        name, kind, several, required, fields, media, frozenset(needed & media.keys())
    )


def _kinds(parameter: inspect.Parameter, films: bool) -> list[MediaKind]:
    """What is a film may also be a single picture, where the annotation says so."""
    kind = media_kind(parameter, films)
    assert kind is not None
    alone = "Image" in _LISTED.sub("", str(parameter.annotation))
    return ["film", "picture"] if kind == "film" and alone else [kind]


# ---------------------------------------------------------------- what a request gives


def plain(arguments: Mapping[str, Argument], call: Call) -> dict[str, Any]:
    """The keyword arguments that are plain values. Raises BadInput that names the field."""
    return inputs.accept(arguments, _whole(call.inputs.params))


def made(
    known: Mapping[str, Structured], media: Mapping[str, MediaArgument], call: Call
) -> dict[str, Any]:
    """Those that are made of media: pictures, films, sounds, rows, objects. Raises BadInput that
    names the field."""
    parts = [*_placed(call.inputs.params, lambda value: value), *_placed(call.media, _alone)]
    found = {name: _made(name, own, known, media) for name, own in _by_argument(parts)}
    for name, one in known.items():
        if one.required and name not in found:
            raise BadInput(f"{name} is missing", name)
    others = {name: one for name, one in media.items() if name not in found}
    return given.accept(others, _whole(call.media)) | found


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is an argument's, and not a part of it."""
    return {name: value for name, value in values.items() if _place(name) is None}


def _placed(values: Mapping[str, Any], one: Callable[[Any], Any]) -> Iterator[tuple[Place, Any]]:
    for name, value in values.items():
        if (at := _place(name)) is not None:
            yield at, one(value)


def _made(
    argument: str,
    parts: Mapping[Place, Any],
    known: Mapping[str, Structured],
    media: Mapping[str, MediaArgument],
) -> Any:
    if argument in known:
        return _objects(known[argument], parts)
    if argument in media and media[argument].kind == "picture" and all(map(is_cell, parts)):
        return _rows(argument, parts)
    name = str(next(iter(parts)))
    raise BadInput(f"this model has no parameter {name}", name)


def _place(name: str) -> Place | None:
    try:
        return place(name)
    except ValueError as error:
        raise BadInput(str(error), name) from error


def _alone(media: list[Any]) -> Any:
    """Several pictures in one place are the frames of a film."""
    return media[0] if len(media) == 1 else list(media)


def _by_argument(parts: Sequence[tuple[Place, Any]]) -> Iterator[tuple[str, dict[Place, Any]]]:
    for argument in dict.fromkeys(at.argument for at, _ in parts):
        yield argument, {at: value for at, value in parts if at.argument == argument}


def _objects(one: Structured, parts: Mapping[Place, Any]) -> Any:
    """The argument's value: an object, or the list of them in order."""
    fields: dict[int, dict[str, Any]] = {}
    for at, value in parts.items():
        *number, name = at.path
        if len(number) != one.several or not isinstance(name, str):
            raise BadInput(f"this model has no parameter {at}", str(at))
        fields.setdefault(int(number[0]) if number else 0, {})[name] = value
    _check_whole(one.name, fields)
    if not one.several:
        return one.make(fields[0], one.name)
    return [one.make(fields[i], f"{one.name}.{i}") for i in sorted(fields)]


def _rows(argument: str, parts: Mapping[Place, Any]) -> list[list[Any]]:
    """Of pictures; None is a place without one."""
    rows: dict[int, dict[int, Any]] = {}
    for at, value in parts.items():
        row, column = at.path
        rows.setdefault(int(row), {})[int(column)] = value
    _check_whole(argument, rows)
    for row, cells in rows.items():
        _check_whole(f"{argument}.{row}", cells)
    return [[rows[row][column] for column in sorted(rows[row])] for row in sorted(rows)]


def _check_whole(name: str, numbered: Mapping[int, Any]) -> None:
    """Raises BadInput for numbers that leave one out."""
    for index in range(len(numbered)):
        if index not in numbered:
            raise BadInput(f"{name}.{index} is missing", f"{name}.{index}")
