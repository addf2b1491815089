"""Forwards whose samples are divided among ranks: branches of guidance, the batch of classic
guidance, requests that share a forward.

Every rank holds all arguments, computes its own part, and is given the parts of the others, so that
all go on with the same result, bit for bit. diffusers has no such thing of its own; here it needs
nothing of a model but what batching needs (`roles.split.denoising.batching`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from roles.split.denoising.batching import (
    is_list_of_tensors,
    like,
    lists_samples,
    merge,
    split,
    tensors,
)
from roles.split.denoising.slicing import samples, sliced
from roles.split.program import TransformerCall

if TYPE_CHECKING:
    from roles.rank.world import World


class Across:
    """The ranks of one instance, as `roles.split.denoising.together.Together` uses them. Every
    method is called in all ranks with the same calls, and raises in all of them or in none."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def divides(self, call: TransformerCall) -> bool:
        """Whether a single call is enough to divide."""
        return self._world.parallel.guidance > 1 and samples(call) > 1

    def whole(self, call: TransformerCall) -> Any:
        """The forward as it is, computed by all ranks, or by those that divide its tokens."""
        return self._agreed([call], call.run)

    def run(self, calls: Sequence[TransformerCall]) -> list[Any]:
        """One forward for these calls, of equal keys; the result of each."""
        counts = [samples(call) for call in calls]
        parts = _parts(calls, counts, self._world.parallel.guidance)
        own = parts[self._world.part]
        output = self._agreed(calls, own.compute)
        wanted, listed = [part.wanted for part in parts], lists_samples(calls[0])
        return split(self._gathered(output, own.samples, wanted, listed), counts, listed)

    def _agreed(self, calls: Sequence[TransformerCall], compute: Callable[[], Any]) -> Any:
        output, error = None, None
        try:
            output = compute()
        except Exception as reason:
            error = reason
        self._world.agree(error, _digest(calls), forward=True)
        return output

    def _gathered(self, output: Any, samples: int, counts: Sequence[int], listed: bool) -> Any:
        """All parts of a result as one; `output` is this rank's own, of so many samples."""
        if isinstance(output, torch.Tensor):
            return torch.cat(self._parts_of(output, counts))
        if isinstance(output, dict):  # diffusers' outputs too
            gathered = {k: self._gathered(v, samples, counts, listed) for k, v in output.items()}
            return like(output, gathered)
        if type(output) is tuple:
            return tuple(self._gathered(each, samples, counts, listed) for each in output)
        if type(output) is list and is_list_of_tensors(output, samples, listed):
            return [self._gathered(each, samples, counts, listed) for each in output]
        if type(output) is list:
            return list(self._gathered(torch.stack(output), samples, counts, listed).unbind())
        return output

    def _parts_of(self, own: torch.Tensor, counts: Sequence[int]) -> list[torch.Tensor]:
        """Parts that are smaller than others are filled up for the way."""
        missing = max(counts) - len(own)
        full = torch.cat([own, own.new_zeros(missing, *own.shape[1:])]) if missing else own
        parts = self._world.gather(full)
        return [part[:count] for part, count in zip(parts, counts, strict=True)]


@dataclass(frozen=True)
class _Part:
    """What one rank computes: calls as one forward, of `samples` samples. `wanted`: none, if
    another rank computes the same."""

    calls: list[TransformerCall]
    samples: int
    wanted: int

    def compute(self) -> Any:
        """Raises `Unmergeable` where something in the result does not count the samples."""
        call = self.calls[0] if len(self.calls) == 1 else merge(self.calls)[0]
        output = call.run()
        split(output, [self.samples], lists_samples(call))
        return output


def _parts(calls: Sequence[TransformerCall], counts: Sequence[int], ranks: int) -> list[_Part]:
    """For each rank its calls, where there are enough, or its samples of them all. A rank for which
    there is nothing has the last part too: so it knows the form of the result."""
    if len(calls) >= ranks:
        cuts = [(list(calls[cut]), sum(counts[cut])) for cut in _cuts(len(calls), ranks)]
    else:
        call, total = calls[0] if len(calls) == 1 else merge(calls)[0], sum(counts)
        cuts = [
            ([sliced(call, cut)], cut.stop - cut.start) for cut in _cuts(total, min(total, ranks))
        ]
    parts = [_Part(own, count, count) for own, count in cuts]
    return parts + [replace(parts[-1], wanted=0)] * (ranks - len(parts))


def _cuts(count: int, parts: int) -> list[slice]:
    """So many things in parts that differ by one at most."""
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(first, end) for first, end in pairwise(ends)]


def _digest(calls: Sequence[TransformerCall]) -> int:
    """Of the first tensor of each call, its latents: ranks that hold others have gone apart."""
    hashed = xxhash.xxh3_64()
    for call in calls:
        first = next(tensors((call.args, dict(call.kwargs))), None)
        if first is not None:
            flat = first.detach().reshape(-1).contiguous().view(torch.uint8)
            hashed.update(flat.cpu().numpy().data)
    return hashed.intdigest()
