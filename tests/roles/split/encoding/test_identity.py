"""Values by their contents."""

import numpy as np
import pytest
import torch
from PIL import Image

from roles.split.encoding.identity import Unidentified, identity

DISTINCT = [
    None,
    False,
    0,
    0.0,
    -0.0,
    "",
    "0",
    b"0",
    [],
    (),
    [[]],
    ["a", "b"],
    ["ab"],
    ["a", ["b"]],
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    torch.float32,
    torch.device("cpu"),
    torch.zeros(2),
    torch.zeros(2, 1),
    torch.zeros(2, dtype=torch.float16),
    torch.zeros(2, dtype=torch.int32),
    torch.tensor([0.0, 1.0]),
    torch.tensor(0.0),
    torch.zeros(2, 3),
    torch.zeros(3, 2).T,
    torch.zeros(0),
    np.zeros(2),
    np.float64(0.0),
    Image.new("RGB", (2, 2)),
    Image.new("RGB", (2, 2), (0, 0, 1)),
    Image.new("RGB", (4, 1)),
    Image.new("L", (2, 2)),
]


def test_different_values_have_different_identities() -> None:
    assert len({identity(value) for value in DISTINCT}) == len(DISTINCT)
    assert identity("a", "b") != identity("ab") != identity(("a", "b"))


def test_equal_contents_are_the_same() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    assert identity(base[1]) == identity(torch.arange(4.0, 8.0))
    assert identity({"a": [base]}) == identity({"a": [base.clone()]})
    assert identity(torch.nn.Parameter(base)) == identity(base)
    nan = torch.tensor(float("nan"))
    assert identity(nan) == identity(nan.clone())
    assert identity(Image.new("RGB", (2, 2), "red")) == identity(Image.new("RGB", (2, 2), "#f00"))


def nested() -> list[object]:
    outer: list[object] = []
    outer.append(outer)
    return outer


@pytest.mark.parametrize(
    "value",
    [print, object(), torch.Generator(), {1, 2}, torch.zeros(1, device="meta"), nested()],
    ids=["function", "object", "generator", "set", "meta", "endless"],
)
def test_what_is_not_understood_has_none(value: object) -> None:
    with pytest.raises(Unidentified):
        identity(["fine", value])
