"""One request's dealings with the encoder's cache: what it finds there, and what it leaves."""

from typing import Any

import torch

from roles.split.encoding.encodings import Encoding, Encodings, encoding_of
from roles.split.encoding.notes import WRITTEN
from roles.split.encoding.reading import Reading
from roles.split.encoding.surroundings import Surroundings
from roles.split.randomness import GlobalRandomness


class Sought:
    """One call that was looked for. If it was not `found`, it is made, and then either `computed`
    or `encoded_nothing` is called."""

    found = False
    value: Any = None

    def computed(self, value: Any, drew: bool) -> None:
        """An encoder computed in the call. `drew`: it took numbers from the request's generator."""

    def encoded_nothing(self) -> None:
        """It was no encoding after all."""


class Recollection:
    """Looks calls up, and keeps what was computed once the request is known to be a good one.

    Without `encodings` nothing is ever found. A call that draws random numbers is not kept. `worn`:
    the adapters that change what the encoders compute, digest and scale of each.
    """

    def __init__(
        self,
        encodings: Encodings | None,
        reading: Reading,
        randomness: GlobalRandomness,
        worn: tuple[tuple[str, float], ...] = (),
    ) -> None:
        self._worn = worn
        self._encodings = encodings
        self._reading = reading
        self._randomness = randomness
        self._surroundings = Surroundings()
        self._new: list[tuple[bytes, Encoding]] = []

    def begin(self, surroundings: Surroundings) -> None:
        """The pipeline is about to run in these."""
        self._surroundings = surroundings

    def seek(self, name: str, args: Any, kwargs: Any) -> Sought:
        """A method of a component, which sees its arguments and nothing else."""
        if self._encodings is None:
            return Sought()
        return self._seek(self._encodings, name, args, kwargs)

    def seek_method(self, name: str, args: Any, kwargs: Any) -> Sought:
        """A method of the pipeline, which sees its surroundings too."""
        if self._encodings is None:
            return Sought()
        if not self._encodings.encodes(name):
            return _Unknown(self, self._encodings, name, None)
        return self._seek(self._encodings, name, args, kwargs, self._surroundings.changes())

    def wrote(self) -> None:
        """A model has written what will be read next."""
        self._reading.note(WRITTEN)

    def settle(self) -> None:
        """The request was encoded, and nothing was wrong with it: it may be repeated."""
        for key, encoding in self._new:
            assert self._encodings is not None
            self._encodings.keep(key, encoding)

    def _seek(self, encodings: Encodings, name: str, *seen: Any) -> Sought:
        key = encodings.key(name, self._worn, *seen)
        encoding = encodings.find(key)
        return _Unknown(self, encodings, name, key) if encoding is None else self._hit(encoding)

    def _hit(self, encoding: Encoding) -> Sought:
        for note in encoding.notes:
            self._reading.note(note)
        sought = Sought()
        sought.found = True
        sought.value, changes = encoding.copy()
        self._surroundings.put(changes)
        return sought


class _Unknown(Sought):
    def __init__(
        self, memory: Recollection, encodings: Encodings, name: str, key: bytes | None
    ) -> None:
        self._memory, self._encodings = memory, encodings
        self._name, self._key = name, key
        self._random = memory._randomness.now()
        self._noted = len(memory._reading.notes)
        self._before = memory._surroundings.changes()

    def computed(self, value: Any, drew: bool) -> None:
        self._encodings.missed(self._name)
        memory = self._memory
        if self._key is None or drew or self._drew():
            return
        changes = memory._surroundings.changes_since(self._before)
        notes = tuple(memory._reading.notes[self._noted :])
        encoding = encoding_of(value, changes, notes)
        if encoding is not None:
            memory._new.append((self._key, encoding))

    def encoded_nothing(self) -> None:
        self._encodings.encodes_nothing(self._name)

    def _drew(self) -> bool:
        now = self._memory._randomness.now()
        return not all(map(torch.equal, self._random, now))
