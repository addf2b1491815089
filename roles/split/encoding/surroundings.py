"""What a pipeline's method sees of its request beside its arguments, and what it leaves there.

Pipelines keep notes on themselves (the guidance scale, say), set their schedulers, and turn the
padding of a tokenizer around in one method for another one to see.
"""

from typing import Any, Self

from roles.split.face import Own
from roles.split.view import Pipeline, schedulers

Changes = list[dict[str, Any]]  # of each place, by attribute


class Surroundings:
    """The attributes of one request's view, schedulers and tokenizers, since they were made."""

    def __init__(self, *owners: Any) -> None:
        self._places = [vars(each) for each in owners]
        self._first = [dict(place) for place in self._places]

    @classmethod
    def of(cls, view: Pipeline, faces: dict[str, Any]) -> Self:
        """Those of a request whose pipeline is about to run."""
        tokenizers = [face.component for face in faces.values() if isinstance(face, Own)]
        return cls(view, *(part for _, part in schedulers(view)), *tokenizers)

    def changes(self) -> Changes:
        """What has been set to something else."""
        return [_news(*pair) for pair in zip(self._first, self._places, strict=True)]

    def changes_since(self, before: Changes) -> Changes:
        """What has been set since `changes` told of these."""
        return [_news(*pair) for pair in zip(before, self.changes(), strict=True)]

    def put(self, changes: Changes) -> None:
        """Sets what a call that is not made this time would set."""
        for place, values in zip(self._places, changes, strict=True):
            place.update(values)


def _news(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in now.items() if k not in before or before[k] is not v}
