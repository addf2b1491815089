"""Room for computed payloads: whoever finds the outbox full waits in line."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roles.calls import Key
from roles.leader.attempt import Attempt
from transfer.messages import Role, Shelf, Work
from transfer.pool import Outbox, SlotPool

SENDERS: tuple[Role, ...] = ("encoder", "denoiser")
OF_CHECKPOINTS: Role = "denoiser"  # the outbox in which they lie


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
    room at once: first checkpoints, which take half of their outbox at most, then what was
    delivered, the oldest first. A checkpoint that is lent, because a copy of it is being written,
    keeps its slots until that has ended, whatever becomes of it.
    """

    def __init__(self, outboxes: Mapping[Role, Outbox]) -> None:
        self._outboxes = outboxes
        self._lines: dict[Role, deque[tuple[Attempt, int, asyncio.Future[None]]]] = {
            role: deque() for role in outboxes
        }
        self._kept: dict[Shelf, dict[Key, Kept]] = {"checkpoint": {}}
        self._kept |= {role: {} for role in outboxes}
        self._lent: Counter[int] = Counter()  # first slot → how many copies are written from there
        self._late: dict[int, list[int]] = {}  # lent, and not kept any more

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
        role = _box(attempt.shelf)
        if role not in self._lines:
            return  # one that sends nothing
        self._lines[role] = deque(entry for entry in self._lines[role] if entry[0] is not attempt)
        if attempt.slots:
            self._give_up(role, attempt.slots)
            attempt.slots = []
        self._serve(role)

    # ------------------------------------------------------------ what was delivered

    @property
    def kept(self) -> int:
        """How many payloads are kept."""
        return sum(len(kept) for kept in self._kept.values())

    def keep(self, attempt: Attempt, nbytes: int, checksum: int) -> None:
        """The attempt is over, and its payload stays where it is."""
        slots, attempt.slots = attempt.slots, []
        self._put(attempt.shelf, attempt, slots, nbytes, checksum)

    def take(self, shelf: Shelf, key: Key) -> Kept | None:
        """A kept payload is somebody's again, with its slots; None if it is not there any more."""
        return self._kept.get(shelf, {}).pop(key, None)

    def release(self, shelf: Shelf, key: Key) -> None:
        """Nobody will ask for it again."""
        if (kept := self.take(shelf, key)) is not None:
            self._free(shelf, kept.slots)

    def release_all(self) -> None:
        for shelf, kept in self._kept.items():
            for key in list(kept):
                self.release(shelf, key)

    # ------------------------------------------------------------ checkpoints

    def spare(self, nbytes: int) -> list[int] | None:
        """Slots for a checkpoint; None if there is no room that nobody else needs."""
        outbox = self._outboxes[OF_CHECKPOINTS]
        taken = sum(len(kept.slots) for kept in self._kept["checkpoint"].values())
        taken += sum(map(len, self._late.values()))
        total = outbox.need(outbox.limit)
        if self._lines[OF_CHECKPOINTS] or 2 * (taken + outbox.need(nbytes)) > total:
            return None
        return outbox.allocate(nbytes)

    def give_back(self, slots: list[int]) -> None:
        """Nothing was kept in these."""
        self._free("checkpoint", slots)

    def keep_checkpoint(
        self, attempt: Attempt, slots: list[int], nbytes: int, checksum: int
    ) -> None:
        """In the place of the attempt's earlier one."""
        self.release("checkpoint", attempt.key)
        self._put("checkpoint", attempt, slots, nbytes, checksum)

    def lend(self, key: Key) -> Kept | None:
        """A checkpoint that stays where it is while a copy of it is written; `take_back` follows.
        None if it is not there any more."""
        kept = self._kept["checkpoint"].get(key)
        if kept is not None:
            self._lent[kept.slots[0]] += 1
        return kept

    def take_back(self, kept: Kept) -> None:
        """Nothing is written from these slots for that copy any more."""
        first = kept.slots[0]
        self._lent[first] -= 1
        if not self._lent[first]:
            del self._lent[first]
            self._free("checkpoint", self._late.pop(first, []))

    def _put(
        self, shelf: Shelf, attempt: Attempt, slots: list[int], nbytes: int, checksum: int
    ) -> None:
        self._kept[shelf][attempt.key] = Kept(attempt.work, slots, nbytes, checksum)
        self._serve(_box(shelf))

    def _free(self, shelf: Shelf, slots: list[int]) -> None:
        self._give_up(_box(shelf), slots)
        self._serve(_box(shelf))

    def _give_up(self, role: Role, slots: list[int]) -> None:
        """They are free, now or when they are not lent any more."""
        if slots and slots[0] in self._lent:
            self._late[slots[0]] = slots
        else:
            self._outboxes[role].free(slots)

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
        outbox, shelves = self._outboxes[role], [self._kept[role]]
        if role == OF_CHECKPOINTS:
            shelves.insert(0, self._kept["checkpoint"])
        kept = [(shelf, key) for shelf in shelves for key in shelf if not self._is_lent(shelf[key])]
        room = outbox.free_slots + sum(len(shelf[key].slots) for shelf, key in kept)
        if outbox.need(nbytes) > room:
            return None
        while (slots := outbox.allocate(nbytes)) is None and kept:
            shelf, key = kept.pop(0)
            outbox.free(shelf.pop(key).slots)
        return slots

    def _is_lent(self, kept: Kept) -> bool:
        return kept.slots[0] in self._lent


def _box(shelf: Shelf) -> Role:
    """Whose outbox a shelf is part of."""
    return OF_CHECKPOINTS if shelf == "checkpoint" else shelf
