"""How requests end, and how what was held for them comes home.

The client has its answer at once. Capacity and slots come back only when the instance that holds
them has said that it stopped, or is gone.
"""

from orchestrator.core.books import Books
from orchestrator.core.commands import Completed, Resolve
from orchestrator.core.requests import Request, State
from orchestrator.core.slots import Lease
from transfer.messages import Abort, ErrorInfo, Media

LOGGED = frozenset({"internal", "payload", "rank_died", "rank_failed", "transfer_failed"})


def complete(books: Books, request: Request, media: list[Media]) -> None:
    """The last instance has said Finished."""
    books.count("requests_completed")
    done = Completed(media, request.timings(books.now), request.tries)
    part(books, request)
    _end(books, request, State.COMPLETED, done)


def fail(books: Books, request: Request, error: ErrorInfo) -> None:
    """The client gets the error now; whoever still works on it is told to stop."""
    books.count("requests_failed")
    books.count(f"failed_{error.kind}")
    if error.kind in LOGGED:
        books.log("warning", f"request {request.id} failed ({error.kind}): {error.message}")
    _end(books, request, State.FAILED, error)


def cancel(books: Books, request: Request, reason: str) -> None:
    """Nobody wants the result any more."""
    books.count("requests_cancelled")
    _end(books, request, State.CANCELLED, ErrorInfo(kind="cancelled", message=reason))


def confirm(books: Books, request: Request, released: int | None) -> None:
    """The worker has said that nothing of the attempt goes on in it, and its capacity is free.

    `released` is the grant that it gave back. One that it was given and does not give back was
    written to, with an end that it does not know: its slots stay pinned.
    """
    lease = request.outgoing
    if lease is not None:
        withdraw(books, request)
        if lease.generation == released and not lease.pinned:
            free(books, lease)
        else:
            pin(books, lease)
    part(books, request)


def pin(books: Books, lease: Lease) -> None:
    """Bytes may still land there for as long as the sender's process lives."""
    if not lease.pinned:
        books.count("slots_pinned")
    lease.quarantine(pinned=True)


def part(books: Books, request: Request) -> None:
    """The worker counts the request no more. What it was granted stays as it is."""
    worker, request.worker, request.outgoing = request.worker, None, None
    if worker is None:
        return
    release_incoming(books, request)
    worker.posts[request.role].working.pop(request, None)
    worker.outbox.pop(request, None)
    books.stir(worker)
    if request.over:
        books.ledger.drop(request)


def withdraw(books: Books, request: Request) -> None:
    """The receiver waits for the payload no more. It was never told of it; its slots are
    quarantined until the sender gives them back."""
    lease = request.outgoing
    if lease is None or lease.state != "granted":
        return
    lease.quarantine()
    receiver = lease.table.owner
    if receiver is not None:
        receiver.posts[request.next_role].forget(request)
        books.stir(receiver)


def release_incoming(books: Books, request: Request) -> None:
    """The payload is out of the slots, or nobody will read it."""
    lease, request.incoming = request.incoming, None
    if lease is not None:
        free(books, lease)


def free(books: Books, lease: Lease) -> None:
    """The lease's slots are whoever's turn it is."""
    lease.release()
    if lease.table.owner is not None:
        books.stir(lease.table.owner)


def abort(books: Books, request: Request) -> None:
    """Tells the worker to stop, now and again until it confirms."""
    if request.worker is None:
        return
    reason = str(request.state)
    books.send(request.worker, Abort(request.id, request.attempt, reason))
    again = books.now + books.config.abort_again_s
    books.ledger.reminders.put(again, request.number, request)


def _end(books: Books, request: Request, state: State, result: Completed | ErrorInfo) -> None:
    if request.state is State.QUEUED:
        books.ledger.queued -= 1
    elif request.state is State.DELIVERED:
        _unpark(books, request)
    request.move(state, books.now)
    books.ledger.close(request, books.now)
    books.commands.append(Resolve(request.id, result))
    for role in request.route:
        books.calls[role] = None  # it may have been at the head of a line
    withdraw(books, request)
    if request.worker is None:
        books.ledger.drop(request)
    else:
        abort(books, request)


def _unpark(books: Books, request: Request) -> None:
    """The payload waited in the slots of an instance that has not been told of it."""
    assert request.incoming is not None
    receiver = request.incoming.table.owner
    if receiver is not None:
        receiver.posts[request.role].forget(request)
    release_incoming(books, request)
