"""What the forwards of a request gave, kept so that it can be given again.

A loop that keeps its state where nobody can see it (in the variables of a block's own function,
say) can still be gone on with elsewhere: the pipeline runs its own program from where its state was
known last, and each forward is answered with what it gave the first time.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from roles.split.forward import is_plain
from roles.split.loop import NotPortable
from roles.split.replay import mapped

MOST_BYTES = 64 << 20  # of one request; they lie where the model computes, and in its checkpoint


class Results:
    """Those of one request, in the order in which its pipeline called for them.

    `known`: those of an earlier life, which are given first. `noted` ones are copies, and what is
    given `again` is another copy, for pipelines change what they get.
    """

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self._kept = list(known)
        self._again = deque(self._kept)
        self._nbytes = sum(map(_nbytes, self._kept))
        self._why_not: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether the next forward is answered from here."""
        return bool(self._again)

    @property
    def recording(self) -> bool:
        return self._why_not is None

    def again(self) -> Any:
        return mapped(self._again.popleft(), torch.clone)

    def note(self, output: Any) -> None:
        """A forward gave this. Too much is as good as nothing: all are forgotten then."""
        if self._why_not is not None:
            return
        self._nbytes += _nbytes(output)
        if not is_plain(output):
            self.give_up("its model gives more than plain values and tensors")
        elif self._nbytes > MOST_BYTES:
            self.give_up(f"what its forwards gave is more than {MOST_BYTES >> 20} MiB")
        else:
            self._kept.append(mapped(output, torch.clone))

    def drop(self) -> None:
        """Forgets them: what comes next is another beginning."""
        self._kept, self._nbytes, self._why_not = [], 0, None

    def tree(self) -> list[Any]:
        """For a payload. Raises NotPortable."""
        if self._why_not is not None:
            raise NotPortable(self._why_not)
        return list(self._kept)

    def give_up(self, why_not: str) -> None:
        """They are no use; says why."""
        self.drop()
        self._why_not = why_not


def _nbytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_nbytes, value))
    return sum(map(_nbytes, getattr(value, "__dict__", {}).values()))
