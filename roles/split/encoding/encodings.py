"""The encoder's cache: what text and images were encoded to, by content.

A prompt that comes again, with another seed or number of steps, is not encoded again. What is kept
is what one encoding method returned (`roles.split.encoding.recording`), under the identity of
everything that it could see: its name, its arguments by content, and what the pipeline had noted
about the request. So a hit is the same bits, and what cannot be identified is computed as ever.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from roles.split.encoding.identity import Unidentified, identity
from roles.split.encoding.notes import Note
from roles.split.encoding.surroundings import Changes
from transfer.messages import CacheReport

OVERHEAD_BYTES = 1024  # of an entry beside its tensors, about


@dataclass(frozen=True)
class Encoding:
    """What a method returned, what it set around it (`roles.split.encoding.surroundings`), and how
    its tokenizers read the texts. `nbytes` counts the memory of its tensors, on whatever device."""

    kept: tuple[Any, Changes]
    notes: tuple[Note, ...]
    nbytes: int

    def copy(self) -> tuple[Any, Changes]:
        """A copy of its own for each request: pipelines write into what they get.

        Strides and shared memory are as they were, because what a pipeline computes from it may
        differ in the last bit where they are not.
        """
        return copy.deepcopy(self.kept)


class Encodings:
    """The entries of one rank, at most `limit` bytes; the least recently used make room.

    `model` names the weights and the dtypes: entries are only good for these. Used from one thread.
    """

    def __init__(self, limit: int, model: str) -> None:
        self._limit = limit
        self._model = model
        self._entries: OrderedDict[bytes, Encoding] = OrderedDict()
        self._nbytes = 0
        self._hits = self._misses = 0
        self._idle: set[str] = set()

    @property
    def report(self) -> CacheReport:
        return CacheReport(self._hits, self._misses, len(self._entries), self._nbytes, self._limit)

    def clear(self) -> None:
        """Gives the memory of all entries back."""
        self._entries.clear()
        self._nbytes = 0

    def encodes(self, name: str) -> bool:
        """Whether the method is worth to be looked for."""
        return name not in self._idle

    def key(self, name: str, *seen: Any) -> bytes | None:
        """The key of a call that can see these values; None if they cannot be known again. Numbers
        differ by rounding with the number of threads: what was computed with others is no hit."""
        try:
            return identity(self._model, torch.get_num_threads(), name, *seen)
        except Unidentified:
            return None

    def find(self, key: bytes | None) -> Encoding | None:
        """The entry, which is a hit then; whoever computes instead says so (`missed`)."""
        found = None if key is None else self._entries.get(key)
        if key is not None and found is not None:
            self._hits += 1
            self._entries.move_to_end(key)
        return found

    def missed(self, name: str) -> None:
        """An encoder has computed for this method."""
        self._misses += 1
        self._idle.discard(name)

    def encodes_nothing(self, name: str) -> None:
        """This method need not be looked for: no encoder computes in it."""
        self._idle.add(name)

    def keep(self, key: bytes, encoding: Encoding) -> None:
        if key in self._entries or encoding.nbytes > self._limit:
            return
        self._entries[key] = encoding
        self._nbytes += encoding.nbytes
        while self._nbytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._nbytes -= oldest.nbytes


def encoding_of(value: Any, changes: Changes, notes: tuple[Note, ...]) -> Encoding | None:
    """An entry for this value as it is now; None if it cannot be copied, or if the method has set
    something that is more than a value."""
    try:
        identity(changes)
        kept = copy.deepcopy((value, changes))
    except (Unidentified, TypeError, RuntimeError):  # a generator or the like is in there
        return None
    return Encoding(kept, notes, OVERHEAD_BYTES + sum(_storages(kept).values()))


def _storages(value: Any) -> dict[int, int]:
    """The memory of all tensors in a value: its address, its bytes."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    inner: Iterable[Any] = ()
    if isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, dict):
        inner = value.values()
    elif hasattr(value, "__dict__"):  # distributions
        inner = vars(value).values()
    found: dict[int, int] = {}
    for each in inner:
        found |= _storages(each)
    return found
