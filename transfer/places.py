"""Where a part of an argument stands: `conditions.0.frames` is the field `frames` of the first of
its objects, `image.1.0` the first picture in its second row. Pure.
"""

from typing import NamedTuple

from transfer.messages import MediaField, ModelInfo, Parameter, Structure

MOST = 16  # objects of an argument; rows; pictures in a row


class Place(NamedTuple):
    """`path`: numbers and names below the argument."""

    argument: str
    path: tuple[int | str, ...]

    def __str__(self) -> str:
        return ".".join(map(str, (self.argument, *self.path)))


def place(name: str) -> Place | None:
    """None: it is the name of an argument. Raises ValueError for what names nothing."""
    argument, *path = name.split(".")
    if not path:
        return None
    steps = tuple(int(step) if step.isdecimal() and step.isascii() else step for step in path)
    if not argument or any(step == "" for step in steps):
        raise ValueError(f"{name} is no place in an argument")
    if any(isinstance(step, int) and step >= MOST for step in steps):
        raise ValueError(f"{name}: {MOST} of a kind at most")
    return Place(argument, steps)


def is_cell(of: Place) -> bool:
    """Whether it is a place in a row."""
    return len(of.path) == 2 and all(isinstance(step, int) for step in of.path)


def field_at(of: Place, structures: list[Structure]) -> Parameter | MediaField | None:
    """What stands there, by the model's description; None: there is no such place."""
    structure = next((each for each in structures if each.name == of.argument), None)
    if structure is None:
        return None
    *number, name = of.path
    if not isinstance(name, str) or len(number) != structure.several:
        return None
    if any(isinstance(step, str) for step in number):
        return None
    known: list[Parameter | MediaField] = [*structure.fields, *structure.media]
    return next((each for each in known if each.name == name), None)


def picture_row(of: Place, model: ModelInfo) -> bool:
    """Whether it is a place for a picture in the rows of an argument that takes pictures."""
    return is_cell(of) and model.media().get(of.argument) == "picture"
