"""Tokens of several requests in one forward, each request's own result or error."""

from collections.abc import Sequence
from typing import Any

from roles.split.denoising.together import Shared, Together, close
from roles.split.encoding.tokens import accept, together

UNEVEN = "uneven "


class WrittenTogether(Together):
    """As `Together`, for forwards of models that write. One for a rank's life.

    Texts of equal length and texts of different length are a trial each, because only the second
    tells whether the model knows its masks and positions. The shortest text is the one that is also
    computed alone. Ranks do not divide a token.
    """

    def __init__(self) -> None:
        super().__init__()

    def run(self, calls: Sequence[Any], key: str) -> Shared:
        uneven = len({call.cached for call in calls}) > 1
        key = key.removeprefix(UNEVEN)  # of a group that was halved
        return super().run(calls, UNEVEN + key if uneven else key)

    def _batched(self, calls: Sequence[Any]) -> list[Any]:
        return together(calls)

    def _checked(self, calls: Sequence[Any], results: list[Any], form: str) -> Shared:
        shared = super()._checked(calls, results, form)
        if shared.results is results:
            accept(calls)
        return shared

    def _agrees(self, calls: Sequence[Any], results: list[Any]) -> bool:
        shortest = min(range(len(calls)), key=lambda index: calls[index].cached)
        try:
            return close(results[shortest], calls[shortest].rehearse())
        except Exception:  # it is this request's own, and comes again when it runs alone
            return False
