"""Whether a forward left what it was given as it was."""

import pytest
import torch

from roles.split.denoising.footprint import footprint
from roles.split.denoising.loop import NotPortable


def test_nobody_wrote_into_it() -> None:
    given = {"x": torch.zeros(2), "more": [torch.ones(1), None, 3.0, "a"], "dtype": torch.float16}
    assert footprint(given) == footprint(given)


def test_somebody_wrote_into_a_tensor() -> None:
    given = [torch.zeros(2), {"x": (torch.ones(3),)}]
    before = footprint(given)
    given[1]["x"][0][1:].add_(1.0)
    assert footprint(given) != before


def test_somebody_put_something_into_a_list() -> None:
    given: list[list[int]] = [[]]
    before = footprint(given)
    given[0].append(1)
    assert footprint(given) != before


@pytest.mark.parametrize("strange", [object(), torch.Generator(), lambda: None])
def test_of_what_is_strange_nobody_can_tell(strange: object) -> None:
    with pytest.raises(NotPortable, match="its model is given a"):
        footprint([strange])


def test_of_tensors_without_versions_nobody_can_tell() -> None:
    with torch.inference_mode():
        given = torch.ones(1)
    with pytest.raises(NotPortable, match="cannot be seen"):
        footprint(given)
