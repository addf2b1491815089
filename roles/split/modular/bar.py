"""What a loop of blocks takes for its progress bar."""

from typing import Any, Protocol


class Rounds(Protocol):
    """Who wants to know (`roles.split.modular.rounds`)."""

    def begin(self, total: int | None) -> None:
        """A loop says how many steps it will take."""

    def advance(self, count: int) -> None:
        """Steps of a loop are over."""


class Bar:
    """Tells of what a loop shows. Nothing of a request is kept in it."""

    def __init__(self, rounds: Rounds, iterable: Any, total: int | None) -> None:
        self._rounds = rounds
        self._iterable = iterable
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)
        rounds.begin(total)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Any:
        for each in self._iterable:
            yield each
            self.update()

    def update(self, count: int = 1) -> None:
        self._rounds.advance(int(count))

    def close(self) -> None:
        pass

    def set_postfix(self, *args: Any, **kwargs: Any) -> None:
        pass
