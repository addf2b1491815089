"""Where slots lie in a segment, and which bytes go where. Pure arithmetic on offsets.

A pool's segment is one page about the pool, then its inbox slots, then its outbox slots, all of
`slot_bytes`. A payload fills slots in the order in which they are listed, whether they are
neighbours or not.
"""

from collections.abc import Sequence
from typing import NamedTuple

from transfer.errors import PayloadTooLarge


class Span(NamedTuple):
    """Bytes of a segment."""

    offset: int
    nbytes: int


class Copy(NamedTuple):
    """`nbytes` from an offset of the sender's segment to an offset of the receiver's."""

    source: int
    target: int
    nbytes: int


def spans(
    slots: Sequence[int], nbytes: int, *, count: int, slot_bytes: int, offset: int
) -> list[Span]:
    """The bytes of a payload in the given slots of a segment that has `count` of them.

    Neighbours in the right order become one span. Raises ValueError on a slot that does not exist
    or is listed twice, and `PayloadTooLarge` if the payload does not fit into the slots.
    """
    known = not slots or (min(slots) >= 0 and max(slots) < count)
    if not known or len(set(slots)) != len(slots) or slot_bytes < 1:
        raise ValueError(f"slots {list(slots)} of a pool that has {count}")
    if not 0 <= nbytes <= len(slots) * slot_bytes:
        raise PayloadTooLarge(nbytes, len(slots) * slot_bytes)
    found: list[Span] = []
    for slot in slots[: -(-nbytes // slot_bytes)]:
        here, size = offset + slot * slot_bytes, min(nbytes, slot_bytes)
        nbytes -= size
        if found and sum(found[-1]) == here:
            here, size = found[-1].offset, found.pop().nbytes + size
        found.append(Span(here, size))
    return found


def copies(source: Sequence[Span], target: Sequence[Span]) -> list[Copy]:
    """The fewest copies that move a payload from the source's spans to the target's.

    Both describe the same number of bytes; ValueError otherwise.
    """
    if sum(s.nbytes for s in source) != sum(t.nbytes for t in target):
        raise ValueError("source and target differ in length")
    if len(source) == len(target) == 1:
        return [Copy(source[0].offset, target[0].offset, source[0].nbytes)]
    found: list[Copy] = []
    left, right = list(source), list(target)
    while left:
        (start, have), (goal, room) = left[0], right[0]
        size = min(have, room)
        found.append(Copy(start, goal, size))
        left[:1] = [Span(start + size, have - size)] if have > size else []
        right[:1] = [Span(goal + size, room - size)] if room > size else []
    return found
