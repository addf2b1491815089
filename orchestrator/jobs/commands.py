"""What the desk wants done. Its shell carries it out in order and decides nothing.

`Submit` and `Cancel` are the core's own events.
"""

from orchestrator.core.events import Cancel, Submit
from orchestrator.jobs.entries import Entry
from orchestrator.jobs.model import Job, JobEvent, StoredFile
from transfer.messages import Media, Record


class Write(Record, frozen=True):
    """Append the entry to the journal; report with `Written` or `WriteFailed`, once."""

    ticket: int
    entry: Entry


class Store(Record, frozen=True):
    """Bring a request's finished files into durable storage; report with `Stored` or
    `StoreFailed`, once. Files that the media store has already stay where they are."""

    request: str
    media: list[Media]


class Release(Record, frozen=True):
    """Nobody needs these files any more where they were made."""

    media: list[Media]


class Delete(Record, frozen=True):
    """Nobody needs these files any more in durable storage."""

    files: list[StoredFile]


class Sweep(Record, frozen=True):
    """Delete what lies in our own storage under other keys than these: the leftovers of a crash."""

    keep: list[str]


class Conflict(Record, frozen=True):
    """The idempotency key belongs to `job`, which was asked for with another body."""

    job: str


class Full(Record, frozen=True):
    """Too many jobs are unfinished; there will be room in about so many seconds."""

    retry_after_s: float


class Down(Record, frozen=True):
    """The journal cannot be written."""

    reason: str


class Unknown(Record, frozen=True):
    """There is no such job (any more)."""


class Answer(Record, frozen=True):
    """To whoever waits as `asker`: once, and never before what it says is on disk."""

    asker: int
    reply: Job | Conflict | Full | Down | Unknown


class Notify(Record, frozen=True):
    """To everyone who follows the job."""

    event: JobEvent


class Forget(Record, frozen=True):
    """The job is gone; whatever is kept for its followers can go too."""

    job: str


class Log(Record, frozen=True):
    """One line for people."""

    text: str


Command = (
    Write | Submit | Cancel | Store | Release | Delete | Sweep | Answer | Notify | Forget | Log
)
