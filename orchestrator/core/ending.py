"""How attempts and requests end, and how what was held for them comes home.

The client has its answer at once. Capacity and slots come back only when the instance that holds
them has said that it stopped, or is gone.
"""

from orchestrator.core import retry
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.commands import Completed, Preview, Resolve
from orchestrator.core.requests import Request
from orchestrator.core.slots import Lease
from transfer.messages import Abort, ErrorInfo, Media

LOGGED = frozenset(
    {"internal", "payload", "rank_died", "rank_failed", "stalled", "transfer_failed"}
)


def complete(books: Books, attempt: Attempt, media: list[Media]) -> None:
    """The last instance has said Finished."""
    if attempt.request.preview_of is not None:
        _show(books, attempt, attempt.request.preview_of, media)
        return
    books.count("requests_completed")
    request = attempt.request
    timings = request.timings(books.now)
    done = Completed(media, timings, request.tries, request.model.name)
    part(books, attempt)
    _close(books, attempt, State.COMPLETED)
    _resolve(books, request, State.COMPLETED, done)


def fail(books: Books, attempt: Attempt, error: ErrorInfo) -> None:
    """The attempt has failed: another one follows, or the client gets the error now. Whoever still
    works on it is told to stop."""
    if attempt.copy:
        drop_copy(books, attempt)
        return
    if attempt.request.preview_of is not None:
        drop(books, attempt)
        # what made this one fail would do so again
        attempt.request.preview_of.request.previews = 0
        return
    _close(books, attempt, State.FAILED)
    if attempt.restored and error.kind in retry.SPOILT:
        forget_copy(books, attempt.request)
    if not retry.again(books, attempt, error):
        fail_for_good(books, attempt.request, error)


def move(books: Books, attempt: Attempt) -> None:
    """The request goes on elsewhere from its checkpoint; its instance is told to stop here."""
    _close(books, attempt, State.FAILED)
    retry.elsewhere(books, attempt)


def fail_for_good(books: Books, request: Request, error: ErrorInfo) -> None:
    """The client gets the error, with what became of earlier attempts."""
    books.count("requests_failed")
    books.count(f"failed_{error.kind}")
    if error.kind in LOGGED:
        books.log("warning", f"request {request.id} failed ({error.kind}): {error.message}")
    _give_up(books, request, State.FAILED, retry.with_history(request, error))


def cancel(books: Books, request: Request, reason: str) -> None:
    """Nobody wants the result any more."""
    books.count("requests_cancelled")
    _give_up(books, request, State.CANCELLED, ErrorInfo(kind="cancelled", message=reason))


def drop(books: Books, preview: Attempt) -> None:
    """Nobody will see it; whoever works on it is told to stop."""
    books.count("previews_dropped")
    _close(books, preview, State.CANCELLED)
    books.ledger.end_preview(preview.request)


def drop_copy(books: Books, copy: Attempt) -> None:
    """Nobody will go on from it; if it is being written, its maker is told to stop."""
    books.count("copies_dropped")
    books.ledger.copying.pop(copy, None)
    copy.request.copy = None
    _close(books, copy, State.CANCELLED)


def forget_copy(books: Books, request: Request) -> None:
    """Whatever there is of one."""
    if request.copy is not None:
        drop_copy(books, request.copy)


def confirm(books: Books, attempt: Attempt, released: int | None) -> None:
    """The worker has said that nothing of the attempt goes on in it, and its capacity is free.

    `released` is the grant that it gave back. One that it was given and does not give back was
    written to, with an end that it does not know: its slots stay pinned.
    """
    lease = attempt.outgoing
    if lease is not None:
        withdraw(books, attempt)
        if lease.generation == released and not lease.pinned:
            free(books, lease)
        else:
            pin(books, lease)
    part(books, attempt)


def pin(books: Books, lease: Lease) -> None:
    """Bytes may still land there for as long as the sender's process lives."""
    if not lease.pinned:
        books.count("slots_pinned")
    lease.quarantine(pinned=True)
    if lease.table.owner is not None:
        books.stir(lease.table.owner)  # who waits for room there may have to look elsewhere


def part(books: Books, attempt: Attempt) -> None:
    """The worker counts the attempt no more. What it was granted stays as it is."""
    worker, attempt.worker, attempt.outgoing = attempt.worker, None, None
    if worker is None:
        return
    release_incoming(books, attempt)
    books.ledger.stalls.discard(attempt.serial)
    attempt.model.due.discard(attempt.serial)
    worker.posts[attempt.post_role].working.pop(attempt, None)
    worker.posts[attempt.post_role].looking.pop(attempt, None)
    worker.outbox.pop(attempt, None)
    worker.uncopied.pop(attempt, None)
    if attempt.copy:
        books.copiers[worker] = None  # has one to send less
    books.stir(worker)
    if attempt.over:
        books.ledger.drop(attempt)


def withdraw(books: Books, attempt: Attempt) -> None:
    """The receiver waits for the payload no more. It was never told of it; its slots are
    quarantined until the sender gives them back."""
    lease = attempt.outgoing
    if lease is None or lease.state != "granted":
        return
    lease.quarantine()
    receiver = lease.table.owner
    if receiver is not None:
        receiver.posts[attempt.next_role].forget(attempt)
        books.stir(receiver)


def release_incoming(books: Books, attempt: Attempt) -> None:
    """The payload is out of the slots, or nobody will read it."""
    lease, attempt.incoming = attempt.incoming, None
    if lease is not None:
        free(books, lease)


def free(books: Books, lease: Lease) -> None:
    """The lease's slots are whoever's turn it is."""
    lease.release()
    if lease.table.owner is not None:
        books.stir(lease.table.owner)


def abort(books: Books, attempt: Attempt) -> None:
    """Tells the worker to stop, now and again until it confirms."""
    if attempt.worker is None:
        return
    reason = str(attempt.state)
    epoch = attempt.worker.epoch
    books.send(attempt.worker, Abort(epoch, attempt.id, attempt.number, reason))
    again = books.now + books.config.abort_again_s
    books.ledger.reminders.put(again, attempt.serial, attempt)


def _show(books: Books, preview: Attempt, of: Attempt, media: list[Media]) -> None:
    books.count("previews_shown")
    part(books, preview)
    _close(books, preview, State.COMPLETED)
    books.ledger.end_preview(preview.request)
    books.commands.append(Preview(of.id, media))


def _give_up(books: Books, request: Request, state: State, error: ErrorInfo) -> None:
    attempt = request.attempt
    assert attempt is not None
    if not attempt.over:
        _close(books, attempt, state)
    _resolve(books, request, state, error)


def _close(books: Books, attempt: Attempt, state: State) -> None:
    """The attempt is over; its request may go on."""
    if not attempt.copy:
        _close_beside(books, attempt.request)
    if attempt.state is State.QUEUED:
        attempt.model.queued -= 1
    elif attempt.state is State.DELIVERED:
        _unpark(books, attempt)
    elif attempt.state is State.STAGED and attempt.worker is not None:
        # what was delivered before, and kept, is no attempt that the worker could abort
        books.release(attempt.worker, attempt.shelf, attempt.id, attempt.held)
    books.ledger.step_out(attempt)
    attempt.move(state, books.now)
    for role in attempt.request.route:
        books.call(attempt.model, role)  # it may have been at the head of a line
    withdraw(books, attempt)
    if attempt.worker is not None:
        books.ledger.linger(attempt)
        abort(books, attempt)


def _close_beside(books: Books, request: Request) -> None:
    """What was made of the attempt while it ran. A copy that has arrived is for the next one."""
    if request.preview is not None:
        drop(books, request.preview)
    if request.copy in books.ledger.copying:
        forget_copy(books, request)


def _resolve(books: Books, request: Request, state: State, result: Completed | ErrorInfo) -> None:
    """The client has its answer, and no attempt follows."""
    books.ledger.close(request, state, books.now)
    for stage in list(request.kept):
        retry.let_go(books, request, stage)
    retry.forget_checkpoint(books, request)
    forget_copy(books, request)
    books.commands.append(Resolve(request.id, result))


def _unpark(books: Books, attempt: Attempt) -> None:
    """The payload waited in the slots of an instance that has not been told of it."""
    assert attempt.incoming is not None
    receiver = attempt.incoming.table.owner
    if receiver is not None:
        receiver.posts[attempt.role].forget(attempt)
    release_incoming(books, attempt)
