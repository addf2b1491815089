"""Names of places in arguments."""

import msgspec
import pytest

from tests.support.models import EDITOR
from transfer.messages import MediaField, Parameter, Structure
from transfer.places import field_at, is_cell, picture_row, place

STRENGTH, FRAMES = Parameter("strength", "float", False), MediaField("frames", ["film"], True)
SEVERAL = Structure("conditions", "Condition", True, False, [STRENGTH], [FRAMES])
ALONE = Structure("action", "Action", False, False, [STRENGTH], [FRAMES])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("conditions.0.frames", (0, "frames")),
        ("image.1.15", (1, 15)),
        ("action.mode", ("mode",)),
        ("image.\u0662", ("\u0662",)),  # a digit elsewhere is no number here
    ],
)
def test_a_place_is_read_and_written(name: str, path: tuple[int | str, ...]) -> None:
    at = place(name)
    assert at is not None
    assert at.path == path
    assert str(at) == name


def test_an_argument_is_no_place() -> None:
    assert place("prompt") is None


@pytest.mark.parametrize("name", [".", "a.", ".a", "a..b", "a.16", "a.99999999999"])
def test_what_names_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no place in an argument|16 of a kind at most"):
        place(name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("conditions.0.strength", STRENGTH),
        ("conditions.3.frames", FRAMES),
        ("conditions.frames", None),
        ("conditions.0.0.frames", None),
        ("conditions.first.frames", None),
        ("conditions.0.index", None),
        ("conditions.0", None),
        ("action.strength", STRENGTH),
        ("action.0.strength", None),
        ("image.0.strength", None),
    ],
)
def test_what_stands_there(name: str, field: Parameter | MediaField | None) -> None:
    at = place(name)
    assert at is not None
    assert field_at(at, [SEVERAL, ALONE]) is field


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("image.0.1", True), ("image.0", False), ("image.a.1", False), ("prompt.0.1", False)],
)
def test_places_in_rows(name: str, is_one: bool) -> None:
    at = place(name)
    assert at is not None
    assert picture_row(at, msgspec.structs.replace(EDITOR, pictures=["image"])) is is_one
    assert is_cell(at) is (at.path == (0, 1))
