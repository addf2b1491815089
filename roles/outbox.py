"""Room for computed payloads: whoever finds the outbox full waits in line."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roles.attempt import Attempt
from roles.calls import Key
from transfer.messages import Role, Work
from transfer.pool import Outbox, SlotPool

SENDERS: tuple[Role, ...] = ("encoder", "denoiser")


def outboxes(pool: SlotPool, roles: Iterable[Role]) -> dict[Role, Outbox]:
    """The pool's outbox slots in equal parts, one for each of these roles that sends.

    Each has its own because an instance may be its own receiver: encodings that fill a shared one
    would wait for a denoiser, which waits for room for what it has finished.
    """
    senders = [role for role in SENDERS if role in roles]
    share = pool.outbox_slots // max(1, len(senders))
    return {role: Outbox(pool, share * i, share) for i, role in enumerate(senders)}


@dataclass(frozen=True)
class Kept:
    """A payload that was delivered and still lies in the outbox, for a later attempt."""

    work: Work
    slots: list[int]
    nbytes: int
    checksum: int


class OutboxLine:
    """The leader's outboxes, with attempts that wait for room, by role first come first served.

    A payload that waits stays in the memory of its ranks, and its attempt keeps its place there:
    so a full outbox slows the computing down instead of growing. Payloads that are only kept make
    room at once, the oldest first.
    """

    def __init__(self, outboxes: Mapping[Role, Outbox]) -> None:
        self._outboxes = outboxes
        self._lines: dict[Role, deque[tuple[Attempt, int, asyncio.Future[None]]]] = {
            role: deque() for role in outboxes
        }
        self._kept: dict[Role, dict[Key, Kept]] = {role: {} for role in outboxes}

    def reserve(self, attempt: Attempt, nbytes: int) -> "asyncio.Future[None]":
        """Done when `attempt.slots` has room for a payload of `nbytes`.

        Raises `PayloadTooLarge` at once if there will never be.
        """
        role = attempt.work.role
        if nbytes > self._outboxes[role].limit:
            self._outboxes[role].allocate(nbytes)  # raises, with the limit
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[role].append((attempt, nbytes, future))
        self._serve(role)
        return future

    def roomy(self, role: Role, nbytes: int) -> bool:
        """Whether there is room for so much without anybody's waiting, or going."""
        outbox = self._outboxes[role]
        return not self._lines[role] and outbox.need(nbytes) <= outbox.free_slots

    def leave(self, attempt: Attempt) -> None:
        """Takes the attempt's slots back, and its place in the line."""
        role = attempt.work.role
        if role not in self._lines:
            return  # one that sends nothing
        self._lines[role] = deque(entry for entry in self._lines[role] if entry[0] is not attempt)
        if attempt.slots:
            self._outboxes[role].free(attempt.slots)
            attempt.slots = []
        self._serve(role)

    # ------------------------------------------------------------ what was delivered

    @property
    def kept(self) -> int:
        """How many payloads are kept."""
        return sum(len(kept) for kept in self._kept.values())

    def keep(self, attempt: Attempt, nbytes: int, checksum: int) -> None:
        """The attempt is over, and its payload stays where it is."""
        role, slots = attempt.work.role, attempt.slots
        attempt.slots = []
        self._kept[role][attempt.key] = Kept(attempt.work, slots, nbytes, checksum)
        self._serve(role)

    def take(self, role: Role, key: Key) -> Kept | None:
        """A kept payload is somebody's again, with its slots; None if it is not there any more."""
        return self._kept.get(role, {}).pop(key, None)

    def release(self, role: Role, key: Key) -> None:
        """Nobody will ask for it again."""
        if (kept := self.take(role, key)) is not None:
            self._outboxes[role].free(kept.slots)
            self._serve(role)

    def release_all(self) -> None:
        for role, kept in self._kept.items():
            for key in list(kept):
                self.release(role, key)

    def _serve(self, role: Role) -> None:
        line = self._lines[role]
        while line:
            attempt, nbytes, future = line[0]
            slots = self._allocate(role, nbytes)
            if slots is None:
                return
            line.popleft()
            attempt.slots = slots
            future.set_result(None)

    def _allocate(self, role: Role, nbytes: int) -> list[int] | None:
        outbox, kept = self._outboxes[role], self._kept[role]
        room = outbox.free_slots + sum(len(each.slots) for each in kept.values())
        if outbox.need(nbytes) > room:
            return None
        while (slots := outbox.allocate(nbytes)) is None and kept:
            outbox.free(kept.pop(next(iter(kept))).slots)
        return slots
