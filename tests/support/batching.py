"""Requests of one model that are denoised together, as a leader and its rank do it."""

from collections.abc import Sequence
from typing import Any

import torch

from roles.calls import Key
from roles.leader.batch_costs import BatchCosts, Line
from roles.leader.scheduler import Arrived, Ended, Ran, Scheduler
from roles.rank.stepping import Stepper
from roles.split.denoising.batching import key_of, tensors
from roles.split.program import Call, Denoising


class Eager(BatchCosts):
    """Whoever may share, shares: tests of what is computed do not depend on how long it takes."""

    def size(self, key: str, ready: int, line: Line | None = None) -> int:
        return ready


class Asked:
    """One request; the `Stepped` of these tests."""

    def __init__(self, call: Call, denoising: Denoising) -> None:
        self.key: Key = (call.request, 1)
        self.exact = call.inputs.exact
        self.denoising = denoising

    @property
    def batch_key(self) -> str | None:
        pending = self.denoising.pending
        return None if not pending or self.exact else key_of(pending[0])

    @property
    def stops(self) -> bool:
        return False


class Denoisers:
    """Runs requests to their ends, each of which joins when another one has done a step more.

    `groups` tells who shared each step, and `calls` how many calls it had.
    """

    def __init__(self, asked: Sequence[Asked], max_batch: int = 4) -> None:
        self.groups: list[tuple[str, ...]] = []
        self.calls: list[int] = []
        self._asked = {each.key: each for each in asked}
        self._coming = list(asked)
        self._scheduler = Scheduler(max_batch, Eager())
        self._stepper = Stepper(lambda: None, 0.0, lambda: True)

    def run(self) -> None:
        while self._coming or len(self._scheduler):
            if self._coming:
                self._scheduler.handle(Arrived(self._coming.pop(0).key, "denoiser"))
            plan = self._scheduler.plan()
            assert plan is not None
            group = [self._asked[key] for key in plan.keys]
            if plan.unit == "begin":
                group[0].denoising.start()
            else:
                self.groups.append(tuple(each.key[0] for each in group))
                self.calls.append(sum(len(each.denoising.pending) for each in group))
                turn = self._stepper.take(group, plan.share)
                assert not any(turn.errors), turn.errors
                assert turn.measured is None or turn.measured.most is None, "a trial failed"
            for each in group:
                ended = each.denoising.done
                ran = Ran(each.key, each.batch_key, len(each.denoising.pending))
                self._scheduler.handle(Ended(each.key) if ended else ran)


def latents(payload: Any) -> list[torch.Tensor]:
    """What a denoiser gives its decoder."""
    return [each for decode in payload["decodes"] for each in tensors(decode[1])]


def apart(one: Any, other: Any) -> float:
    """The largest difference of two denoisers' results, relative to the largest value."""
    pairs = zip(latents(one), latents(other), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
