"""What ranks compute of a forward, put together again."""

import pytest
import torch

from roles.parallel import Parallel
from roles.split.denoising.batching import Unmergeable, split
from roles.split.parallel.across import Across
from roles.split.program import TransformerCall


class Residuals(torch.nn.Module):
    """As a ControlNet: a list of tensors of all samples, of several shapes, and one more."""

    def __init__(self, several: int, alike: bool = False) -> None:
        super().__init__()
        self.several, self.alike = several, alike

    def forward(self, hidden_states, timestep):
        sizes = [4 if self.alike else 4 + i for i in range(self.several)]
        made = hidden_states * 2 + timestep[:, None]
        return [made[:, :1].repeat(1, size) for size in sizes], made


class Ranks:
    """A world of two, as one of them sees it: the other's parts are known."""

    def __init__(self, part, others=None):
        self.part, self.others, self.parts = part, others, []
        self.parallel = Parallel(guidance=2)

    def agree(self, error, token, forward):
        if error is not None:
            raise error

    def gather(self, part):
        self.parts.append(part)
        other = part if self.others is None else self.others.pop(0)
        return [part, other] if self.part == 0 else [other, part]


def call_with(samples: int, several: int, alike: bool = False) -> TransformerCall:
    latents = torch.arange(4.0 * samples).reshape(samples, 4)
    kwargs = {"hidden_states": latents, "timestep": torch.arange(float(samples))}
    return TransformerCall(Residuals(several, alike), "controlnet", (), kwargs)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize(("samples", "several"), [(2, 1), (2, 3), (3, 3), (4, 2), (6, 3)])
def test_lists_of_tensors_of_all_samples_are_put_together(samples, several, alike):
    """Also where a rank, or all together, have as many samples as there are tensors."""
    call = call_with(samples, several, alike)
    second = Ranks(1)
    Across(second).run([call])
    (together,) = Across(Ranks(0, second.parts)).run([call])
    listed, last = call.run()
    assert type(together) is tuple
    assert torch.equal(together[1], last)
    assert [each.shape for each in together[0]] == [each.shape for each in listed]
    assert all(map(torch.equal, together[0], listed))


@pytest.mark.parametrize("alike", [False, True])
def test_such_lists_come_apart_for_the_requests(alike):
    """As many tensors as samples, of one shape or of several: they are no samples."""
    listed, last = call_with(3, 3, alike).run()
    one, other = split((listed, last), [1, 2])
    assert [len(each) for each in one[0]] == [1, 1, 1]
    assert all(torch.equal(each, whole[1:]) for each, whole in zip(other[0], listed, strict=True))
    assert torch.equal(other[1], last[1:])


def test_lists_with_an_entry_for_each_sample_come_apart_as_they_did():
    entries = [torch.full((2, 5), float(i)) for i in range(2)]
    assert [len(part) for part in split(entries, [1, 1], listed=True)] == [1, 1]
    with pytest.raises(Unmergeable, match="does not count the samples"):
        split(entries, [1, 2], listed=True)
