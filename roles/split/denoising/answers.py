"""What the forwards of a request gave, kept so that it can be given again.

A loop that keeps its state where nobody can see it (a second set of latents, the variables of a
block's own function) can still be gone on with elsewhere: the pipeline runs its own program from
where its state was known last, and each forward is answered with what it gave the first time.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from roles.split.denoising.forward import is_plain
from roles.split.denoising.loop import NotPortable
from roles.split.denoising.together import is_out_of_memory
from roles.split.encoding.replay import mapped
from transfer.record import Record

ON_DEVICE_BYTES = 32 << 20  # of one request, where the model computes; what is more lies in memory
MOST_BYTES = 256 << 20  # of one request, and so of its checkpoint


class Answers:
    """Those of one request, in the order in which its pipeline called for them.

    `known`: those of an earlier life, which are given first, on `device`. What is noted is copied,
    and what is given `again` is another copy, for pipelines change what they get.
    """

    def __init__(self, device: torch.device, known: Iterable[Any] = ()) -> None:
        self._device = device
        self._again = deque(known)
        self._kept: list[Any] = []
        self._nbytes = 0
        self._why_not: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether the next forward is answered from here."""
        return bool(self._again)

    @property
    def recording(self) -> bool:
        return self._why_not is None

    def again(self) -> Any:
        """What the next forward gave. It counts as noted."""
        output = self._again.popleft()
        self.note(output)
        return mapped(output, self._for_the_pipeline)

    def note(self, output: Any) -> None:
        """A forward gave this. Too much is as good as nothing: all are forgotten then."""
        if not self.recording:
            return
        self._nbytes += nbytes_of(output)
        if not is_plain(output):
            self.give_up("its model gives more than plain values and tensors")
        elif self._nbytes > MOST_BYTES:
            self.give_up(f"what its forwards gave is more than {MOST_BYTES >> 20} MiB")
        else:
            self._keep(output)

    def _keep(self, output: Any) -> None:
        """What is kept in case of need must not be the end of a request."""
        try:
            self._kept.append(mapped(output, self._to_be_kept))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.give_up("there was no memory left to keep what its forwards gave")

    def give_up(self, why_not: str) -> None:
        """They are no use, now and later; says why."""
        self.drop()
        self._why_not = why_not

    def drop(self) -> None:
        """Forgets them: what comes next is another beginning."""
        self._kept, self._nbytes, self._why_not = [], 0, None

    def tree(self) -> list[Any]:
        """For a payload. Raises NotPortable."""
        if self._why_not is not None:
            raise NotPortable(self._why_not)
        return list(self._kept)

    def _to_be_kept(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.device if self._nbytes <= ON_DEVICE_BYTES else "cpu"
        return tensor.detach().to(place, copy=True)

    def _for_the_pipeline(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, copy=True)


def nbytes_of(value: Any) -> int:
    """Of all tensors in a tree."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(nbytes_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(nbytes_of, value))
    return sum(map(nbytes_of, vars(value).values())) if isinstance(value, Record) else 0
