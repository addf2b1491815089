"""Ranks that are played in one process: each is a greenlet, and stands still where a real one would
wait for the others."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from roles.parallel import divide
from roles.rank.world import RankFailed


class PlayedWorld:
    """What a `roles.rank.world.World` is to those that share out tiles."""

    def __init__(self, rank: int, parallel: str, ranks: int) -> None:
        self.rank = rank
        self.parallel = divide(parallel, ranks)

    def agree(self, error: Exception | None, token: int = 0, forward: bool = False) -> None:
        words = self._meet((error, token))
        if error is not None:
            raise error
        for rank, (theirs, _) in enumerate(words):
            if theirs is not None:
                raise RankFailed(f"rank {rank}: {type(theirs).__name__}: {theirs}")
        assert len({token for _, token in words}) == 1, "ranks have gone apart"

    def all(self, mine: bool) -> bool:
        return all(self._meet(mine))

    def share(self, owned: Sequence[tuple[int, torch.Tensor]]) -> None:
        every = self._meet([tensor.clone() for _, tensor in owned])
        for place, (owner, tensor) in enumerate(owned):
            assert tensor.is_contiguous()
            tensor.copy_(every[owner][place])

    def _meet(self, word: Any) -> list[Any]:
        """What all of them say."""
        every: list[Any] = getcurrent().parent.switch(word)
        return every


def play(work: Callable[[Any], Any], ranks: int, parallel: str = "tiles") -> list[Any]:
    """What `work` gave in each rank, or the exception that it ended with."""
    told: list[Any] = [None] * ranks

    def rank(number: int) -> None:
        try:
            told[number] = work(PlayedWorld(number, parallel, ranks))
        except Exception as error:
            told[number] = error

    players = [greenlet(lambda number=number: rank(number)) for number in range(ranks)]
    words = [player.switch() for player in players]
    while not all(player.dead for player in players):
        assert not any(player.dead for player in players), "a rank has ended before the others"
        words = [player.switch(list(words)) for player in players]
    return told
