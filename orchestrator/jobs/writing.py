"""What is on its way into the journal, and what has to be written again."""

from collections.abc import Callable

from orchestrator.jobs.commands import Command, Write
from orchestrator.jobs.entries import Accepted, Entry, Forgotten
from orchestrator.jobs.limits import Limits


class Writing:
    """Gives every entry a ticket, and writes again what failed, in the same order.

    A promise that failed is not written again, for its client has been refused. As a failed write
    may have landed after all, a `Forgotten` is written in its place. `down`: why the last write
    failed, until everything that failed has been written.
    """

    def __init__(self, limits: Limits) -> None:
        self.down: str | None = None
        self._limits = limits
        self._tickets = 0
        self._under: dict[int, Entry] = {}
        self._again: list[Entry] = []
        self._pause = limits.write_again_s
        self._due = 0.0

    @property
    def idle(self) -> bool:
        return not self._under and not self._again

    def write(self, entry: Entry) -> Command:
        self._tickets += 1
        self._under[self._tickets] = entry
        return Write(self._tickets, entry)

    def written(self, ticket: int) -> Entry | None:
        """The entry of this ticket; None if the ticket is not out."""
        entry = self._under.pop(ticket, None)
        if entry is not None:
            self._pause = self._limits.write_again_s
            self._recover()
        return entry

    def failed(self, ticket: int, reason: str, now: float) -> Entry | None:
        """The same; the entry is kept to be written again."""
        entry = self._under.pop(ticket, None)
        if entry is None:
            return None
        self.down = reason
        if not self._again:
            self._due = now + self._pause
        self._again.append(Forgotten(entry.job) if isinstance(entry, Accepted) else entry)
        return entry

    def retry(self, now: float, matters: Callable[[Entry], bool]) -> list[Command]:
        """The writes that are due again, without those that do not matter any more."""
        if not self._again or now < self._due:
            return []
        self._pause = min(2 * self._pause, self._limits.write_again_most_s)
        again, self._again = self._again, []
        commands = [self.write(entry) for entry in again if matters(entry)]
        if not commands:
            self._recover()
        return commands

    def _recover(self) -> None:
        if not self._again:
            self.down = None
