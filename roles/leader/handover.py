"""What becomes of a computed stage: into the outbox, to the next instance, or a finished file."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from roles.calls import MediaFile, Outcome
from roles.leader.attempt import Attempt, AttemptFailed, Stopped, Stopwatch
from roles.leader.door import Door
from roles.leader.outbox import OutboxLine
from transfer.codec import Message
from transfer.errors import MediaError, PayloadTooLarge, TransferFailed
from transfer.header import write_header
from transfer.messages import (
    Delivered,
    ErrorInfo,
    Finished,
    Grant,
    Media,
    PushFailed,
    Role,
    Staged,
)
from transfer.pool import SlotPool

log = logging.getLogger(__name__)

MAX_MAY_LAND = 10_000  # the oldest are forgotten; such a write ends when the process does
ErrorKind = Literal["internal", "payload_too_large"]


class Sender(Protocol):
    """`transfer.transport.Transport`, as far as it is needed here."""

    async def send(
        self, slots: Sequence[int], nbytes: int, grant: Grant, received_at: float
    ) -> None:
        """Writes these outbox slots into the granted ones. Raises `TransferFailed`. Cancelled, it
        ends when nothing of it is written any more, or says in a `TransferFailed` that some may be.
        """


class Publisher(Protocol):
    """`roles.leader.gallery.Gallery`, as far as it is needed here."""

    async def publish(self, pid: int, files: list[MediaFile]) -> list[Media]:
        """Takes over the files that a rank holds open. Raises OSError and `MediaError`."""

    def discard(self, media: list[Media]) -> None:
        """Nobody will ask for these."""


class Handover:
    """Carries one attempt from its last computed unit to its last message. One for all attempts.

    A payload goes through the outbox always: the ranks write it there and are free for the next
    request, whatever the receiver does. With a good grant it goes on to the receiver at once
    (`Delivered`). Otherwise it stays until a `Push` brings a grant: because there was no good one
    (`Staged`), or because the write failed (`PushFailed`).

    `may_land`: the generations of grants whose writes failed and may still arrive, for `Register`.
    """

    def __init__(
        self,
        pool: SlotPool,
        outbox: OutboxLine,
        sender: Sender,
        publisher: Publisher,
        ranks: Door,
        send: Callable[[Message], None],
    ) -> None:
        self.may_land: deque[int] = deque(maxlen=MAX_MAY_LAND)
        self._unwanted: set[asyncio.Future[list[Media]]] = set()
        self._pool = pool
        self._outbox = outbox
        self._sender = sender
        self._publisher = publisher
        self._ranks = ranks
        self._send = send

    async def finish(self, attempt: Attempt, outcome: Outcome) -> Message:
        """The attempt's last message. Raises `Stopped` and `AttemptFailed`."""
        if outcome.nbytes is not None:
            return await self._hand_on(attempt, outcome.nbytes)
        collected = await self._ranks.collect(attempt)
        attempt.add(collected, busy_s=0.0)  # in threads of their own
        if collected.error is not None:
            raise AttemptFailed(collected.error)
        assert collected.media is not None
        return await self._publish(attempt, collected.media)

    async def _publish(self, attempt: Attempt, files: list[MediaFile]) -> Message:
        if not files:
            raise _failed("internal", "the model made nothing")
        publishing = asyncio.ensure_future(self._publisher.publish(self._ranks.first_pid, files))
        try:
            with Stopwatch(attempt.wrote):
                media = await attempt.wait(publishing)
        except (OSError, MediaError) as error:
            raise _failed("internal", f"the finished file cannot be kept: {error}") from error
        except (Stopped, AttemptFailed):
            self._unwanted.add(publishing)
            publishing.add_done_callback(self._discard)
            raise
        return Finished(*about(attempt), media=media, report=attempt.report)

    def _discard(self, publishing: "asyncio.Future[list[Media]]") -> None:
        """Files that were still being published when nobody wanted them any more."""
        self._unwanted.discard(publishing)
        if not publishing.cancelled() and publishing.exception() is None:
            self._publisher.discard(publishing.result())

    async def _hand_on(self, attempt: Attempt, nbytes: int) -> Message:
        checksum = await self._stored(attempt, nbytes)
        if attempt.grant is None or _unusable(attempt, attempt.grant, nbytes):
            self._stage(attempt, nbytes)
        return await self.deliver(attempt, nbytes, checksum)

    async def deliver(self, attempt: Attempt, nbytes: int, checksum: int) -> Delivered:
        """Writes the payload in `attempt.slots` to where it is granted room, as often as it takes.

        Raises `Stopped` and `AttemptFailed`.
        """
        while True:
            grant = attempt.grant
            if grant is None:
                grant = await attempt.wait(attempt.expect_push())
            if await self._written(attempt, grant, nbytes, checksum):
                return _delivered(attempt, grant, nbytes, checksum)

    async def _stored(self, attempt: Attempt, nbytes: int) -> int:
        """The payload lies in the outbox, and the ranks have forgotten it. Its checksum."""
        try:
            await attempt.wait(self._outbox.reserve(attempt, nbytes))
        except PayloadTooLarge as error:
            raise _failed("payload_too_large", str(error)) from error
        with Stopwatch(attempt.wrote):
            return await self._ranks.store(attempt)

    def _stage(self, attempt: Attempt, nbytes: int) -> None:
        attempt.computing = False
        released = attempt.release_grant()
        self._send(Staged(*about(attempt), nbytes=nbytes, released=released, report=attempt.report))

    async def _written(self, attempt: Attempt, grant: Grant, nbytes: int, checksum: int) -> bool:
        """Whether the payload lies in the granted slots. Returns, or raises, when nothing more is
        being written."""
        with Stopwatch(attempt.wrote):
            failure = await self._write(attempt, grant, nbytes, checksum)
        if failure is not None:
            attempt.grant, attempt.computing = None, False
            if failure.may_land:
                self.may_land.append(grant.generation)
            if not attempt.forgotten.done():  # also if it is aborted: the slots may not be free
                self._send(_push_failed(attempt, grant, nbytes, failure))
        attempt.check()
        return failure is None

    async def _write(
        self, attempt: Attempt, grant: Grant, nbytes: int, checksum: int
    ) -> TransferFailed | None:
        reason = _unusable(attempt, grant, nbytes)
        if reason is not None:
            return TransferFailed(reason, may_land=False)
        head = self._pool.segments(attempt.slots, nbytes)[0]
        write_header(head, *attempt.key, grant.generation, nbytes, checksum)
        sending = asyncio.ensure_future(
            self._sender.send(attempt.slots, nbytes, grant, attempt.grant_at)
        )
        await attempt.race(sending)
        if not sending.done():
            sending.cancel()
            await asyncio.wait([sending])
        return None if sending.cancelled() else _failure(attempt, sending.exception())


def _failure(attempt: Attempt, error: BaseException | None) -> TransferFailed | None:
    if error is None or isinstance(error, TransferFailed):
        return error
    # nobody knows what such a write did: the careful answer
    log.error("a write of request %s failed unexpectedly", attempt.work.request, exc_info=error)
    return TransferFailed(f"{type(error).__name__}: {error}", may_land=True)


def about(attempt: Attempt) -> tuple[int, str, int, Role]:
    return attempt.epoch, *attempt.key, attempt.work.role


def _unusable(attempt: Attempt, grant: Grant, nbytes: int) -> str | None:
    """Why a grant cannot be written to; None if it can."""
    room = len(grant.slots) * grant.pool.slot_bytes
    if nbytes > room:
        return f"{nbytes} bytes into a grant of {room}"
    return None if attempt.grant_seconds() > 0 else "the grant's time was over"


def _delivered(attempt: Attempt, grant: Grant, nbytes: int, checksum: int) -> Delivered:
    return Delivered(
        *about(attempt),
        generation=grant.generation,
        nbytes=nbytes,
        checksum=checksum,
        report=attempt.report,
    )


def _push_failed(
    attempt: Attempt, grant: Grant, nbytes: int, failure: TransferFailed
) -> PushFailed:
    message = f"the payload for {grant.receiver} could not be written: {failure}"
    return PushFailed(
        *about(attempt),
        generation=grant.generation,
        may_land=failure.may_land,
        nbytes=nbytes,
        error=ErrorInfo("transfer_failed", message),
    )


def _failed(kind: ErrorKind, message: str) -> AttemptFailed:
    return AttemptFailed(ErrorInfo(kind, message))
