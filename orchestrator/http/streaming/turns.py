"""A reply that is long gives way to those that are short."""

import asyncio
import time

TURNS = 16  # of the event loop, at most, between two pieces
NOTHING_S = 100e-6  # a turn that is shorter had nothing to do


async def give_way() -> None:
    """Lets the event loop turn until it has nothing else to do just now.

    A small request takes a dozen turns or so; with a piece of a large file in each of them it would
    wait for a dozen pieces.
    """
    for _ in range(TURNS):
        began = time.perf_counter()
        await asyncio.sleep(0)
        if time.perf_counter() - began < NOTHING_S:
            return
