"""What instances say about requests, and what follows from it.

Duplicates, and what comes late or out of order, cost a counter and change nothing: a message
counts only if it fits the request's attempt, worker, role and grant as they are now. A request
that is over still listens, for its capacity and slots have to come home.
"""

from collections.abc import Callable

from orchestrator.core import copies, dispatch, ending, previews, retry
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.commands import Discard, Progress
from orchestrator.core.instances import PORTABLE, Instance
from orchestrator.core.slots import Lease
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Checkpointed,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Progressed,
    PushFailed,
    Staged,
    StageReport,
)

Stage = (
    Accepted
    | Progressed
    | Checkpointed
    | Delivered
    | Staged
    | PushFailed
    | Finished
    | Failed
    | Aborted
)


def handle(books: Books, instance: Instance, message: Stage) -> None:
    """One message of the instance that `message.epoch` belongs to."""
    attempt = _addressed(books, instance, message)
    if attempt is None:
        return
    instance.posts[attempt.post_role].moved_at = books.now
    handler: Callable[..., bool] = HANDLERS[type(message)]
    if not handler(books, attempt, instance, message):
        books.count("dropped_unexpected")


def _addressed(books: Books, instance: Instance, message: Stage) -> Attempt | None:
    attempt = books.ledger.find(message.request, message.attempt)
    if attempt is None:
        books.count("dropped_stale_attempt")
        if isinstance(message, Progressed | Staged):
            # It still works on something that nobody wants, or knows, any more.
            books.send(instance, Abort(instance.epoch, message.request, message.attempt, "unknown"))
        return None
    right_role = isinstance(message, Aborted) or message.role == attempt.role
    if attempt.worker is not instance or not right_role:
        books.count("dropped_unexpected")
        return None
    return attempt


def accepted(books: Books, attempt: Attempt, instance: Instance, message: Accepted) -> bool:
    if attempt.incoming is None or attempt.incoming.generation != message.generation:
        return False
    ending.release_incoming(books, attempt)
    if not attempt.over:
        retry.superseded(books, attempt)
        copies.superseded(books, attempt)
        dispatch.watch(books, attempt)
    return True


def progressed(books: Books, attempt: Attempt, instance: Instance, message: Progressed) -> bool:
    if attempt.over:
        return True  # it has not seen our Abort yet
    if attempt.state is not State.COMPUTING or message.step <= attempt.step:
        return False
    attempt.step, attempt.steps = message.step, message.steps
    dispatch.watch(books, attempt)
    _recount(books, attempt, instance)
    request = attempt.request
    progress = Progress(
        request.id, request.tries, message.role, instance.name, message.step, message.steps
    )
    books.commands.append(progress)
    previews.consider(books, attempt)
    return True


def checkpointed(books: Books, attempt: Attempt, instance: Instance, message: Checkpointed) -> bool:
    if attempt.over or attempt.state is not State.COMPUTING:
        if not retry.is_checkpoint(attempt.request, instance, attempt.number):
            books.release(instance, "checkpoint", attempt.id, attempt.number)
        return attempt.over
    is_preview = attempt.request.preview_of is not None
    if message.role not in PORTABLE or attempt.last or is_preview or message.nbytes <= 0:
        return _breach(books, attempt, instance, f"a checkpoint of {message.nbytes} bytes")
    retry.keep_checkpoint(books, attempt, instance, attempt.stage - 1, message.nbytes)
    dispatch.watch(books, attempt)
    may_move = instance.draining and attempt.request.spared < books.config.max_spared
    if may_move and dispatch.has_room_elsewhere(attempt, message.nbytes):
        ending.move(books, attempt)
    else:
        copies.consider(books, attempt)
    return True


def delivered(books: Books, attempt: Attempt, instance: Instance, message: Delivered) -> bool:
    if attempt.over:
        # Written before our Abort came. The sender is done with the slots, and with the attempt.
        if attempt.outgoing is not None and attempt.outgoing.generation != message.generation:
            return False
        books.release(instance, attempt.shelf, attempt.id, attempt.number)
        ending.confirm(books, attempt, message.generation)
        return True
    if attempt.generation != message.generation or attempt.state not in SENDING:
        return False
    lease = attempt.outgoing
    if message.nbytes <= 0 or (lease is not None and message.nbytes > lease.room):
        text = f"said to have written {message.nbytes} bytes into slots of {lease and lease.room}"
        return _breach(books, attempt, instance, text)
    _computed(books, attempt, instance, message)
    if lease is None or lease.state != "granted":
        return _delivered_to_nobody(books, attempt, instance, message)
    lease.deliver(message.nbytes, message.checksum)
    ending.part(books, attempt)
    if attempt.copy:
        copies.arrived(books, attempt, lease)
        return True
    if attempt.request.preview_of is None:  # nobody keeps a preview: it is made once
        retry.keep(books, attempt, instance, message.nbytes)
    attempt.move(State.DELIVERED, books.now, str(lease.table.owner))
    attempt.stage += 1
    dispatch.park(books, attempt, lease)
    return True


def _delivered_to_nobody(
    books: Books, attempt: Attempt, instance: Instance, message: Delivered
) -> bool:
    """Its receiver was lost meanwhile. The sender keeps the payload, so it can be pushed again."""
    _give_back(books, attempt)
    attempt.outgoing = None
    ending.release_incoming(books, attempt)
    _keep(books, attempt, instance)
    attempt.nbytes, attempt.held = message.nbytes, attempt.number
    attempt.move(State.STAGED, books.now, "its receiver was lost")
    return _wait_for_room(books, attempt, instance)


def staged(books: Books, attempt: Attempt, instance: Instance, message: Staged) -> bool:
    lease = attempt.outgoing
    released = lease is not None and lease.generation == message.released
    if attempt.over:
        if lease is not None and released:
            _give_back(books, attempt)
        _keep(books, attempt, instance)
        return True
    if attempt.state is State.STAGED or (attempt.state is State.PUSHING and not released):
        return False  # said again
    if attempt.last or message.nbytes <= 0:
        return _breach(books, attempt, instance, f"staged {message.nbytes} bytes")
    _computed(books, attempt, instance, message)
    if released:
        _give_back(books, attempt)
    elif lease is not None:
        # It was granted something, and has not said that it will leave it alone.
        books.count("protocol_breaches")
        ending.withdraw(books, attempt)
        attempt.outgoing = None
    ending.release_incoming(books, attempt)
    _keep(books, attempt, instance)
    attempt.nbytes = message.nbytes
    attempt.move(State.STAGED, books.now, f"{message.nbytes} bytes")
    return _wait_for_room(books, attempt, instance)


def push_failed(books: Books, attempt: Attempt, instance: Instance, message: PushFailed) -> bool:
    if attempt.generation != message.generation:
        return False
    lease = attempt.outgoing
    if lease is not None and lease.generation == message.generation:
        _unwritten(books, attempt, lease, message.may_land)
    elif not attempt.over and attempt.state not in SENDING:
        return False
    ending.release_incoming(books, attempt)
    _keep(books, attempt, instance)
    if attempt.over:
        return True
    if attempt.state not in SENDING:
        return False
    books.count("pushes_failed")
    if lease is not None and lease.table.owner is not None and message.nbytes > 0:
        # else there was nothing to write any more, which says nothing about the receiver
        _blame(books, attempt, instance, lease.table.owner)
    error = _signed(message.error, instance)
    if message.nbytes <= 0 or attempt.last:
        ending.fail(books, attempt, error)
        return True
    attempt.nbytes, attempt.held = message.nbytes, attempt.number
    attempt.move(State.STAGED, books.now, f"a write failed: {error.message}")
    return _wait_for_room(books, attempt, instance, error)


def finished(books: Books, attempt: Attempt, instance: Instance, message: Finished) -> bool:
    if attempt.state in (State.FAILED, State.CANCELLED):
        # made before our Abort came
        books.commands.append(Discard(message.media))
        ending.confirm(books, attempt, None)
        return True
    if attempt.state is not State.COMPUTING:
        return False
    if not attempt.last or not message.media:
        books.commands.append(Discard(message.media))
        ending.confirm(books, attempt, None)
        return _breach(books, attempt, instance, f"finished with {len(message.media)} media")
    _note(books, attempt, instance, message.report)
    ending.complete(books, attempt, message.media)
    return True


def failed(books: Books, attempt: Attempt, instance: Instance, message: Failed) -> bool:
    ending.confirm(books, attempt, message.released)
    if not attempt.over:
        ending.fail(books, attempt, _signed(message.error, instance))
    return True


def aborted(books: Books, attempt: Attempt, instance: Instance, message: Aborted) -> bool:
    ending.confirm(books, attempt, message.released)
    if not attempt.over:
        text = f"{instance.name} gave the request up unasked"
        ending.fail(books, attempt, ErrorInfo("internal", text, None, instance.name))
    return True


SENDING = frozenset({State.COMPUTING, State.PUSHING})
"""In these an attempt may have been granted something that its worker writes to."""

HANDLERS: dict[type[Stage], Callable[..., bool]] = {
    Accepted: accepted,
    Progressed: progressed,
    Checkpointed: checkpointed,
    Delivered: delivered,
    Staged: staged,
    PushFailed: push_failed,
    Finished: finished,
    Failed: failed,
    Aborted: aborted,
}


def _wait_for_room(
    books: Books, attempt: Attempt, instance: Instance, error: ErrorInfo | None = None
) -> bool:
    """Stands in the next role's line. `error`: why the last write failed."""
    if attempt.copy:
        ending.drop_copy(books, attempt)
    elif attempt.request.preview_of is not None:
        ending.drop(books, attempt)  # it was made for that one place
    elif too_large := dispatch.too_large(books, attempt):
        ending.fail(books, attempt, too_large)
    elif attempt.pushes >= books.config.max_pushes:
        text = f"{instance.name} could not hand on its payload in {attempt.pushes} grants"
        last = f"; the last time: {error.message}" if error else ""
        # so many receivers cannot all be at fault
        attempt.request.avoid -= attempt.blamed
        attempt.request.avoid.add(instance.name)
        ending.fail(books, attempt, ErrorInfo("transfer_failed", text + last, None, instance.name))
    elif error is not None and not dispatch.choosy(attempt, attempt.next_role):
        # there is nobody else: a receiver that has just died will be known to be lost in a while
        due = books.now + retry.backoff_s(books, attempt.pushes + 1)
        books.ledger.backoffs.put(due, attempt.serial, attempt)
    else:
        dispatch.join(books, attempt)
    return True


def _computed(
    books: Books, attempt: Attempt, instance: Instance, message: Delivered | Staged
) -> None:
    """The stage's payload is there. A checkpoint is of an earlier attempt, which noted it."""
    if not attempt.midway:
        _note(books, attempt, instance, message.report)
        attempt.model.learn(attempt.role, message.nbytes)


def _note(books: Books, attempt: Attempt, instance: Instance, report: StageReport) -> None:
    """The instance has done what it was asked for, and says what it took. A payload that was staged
    first is not computed again when it is pushed. The rest of a stage tells nothing of it all."""
    post, whole = instance.posts[attempt.role], attempt.rest_of != attempt.stage
    if whole and attempt in post.working:
        attempt.model.forecast.learn(attempt, post, report)
    attempt.request.report(attempt.role, report)
    retry.trust(books, attempt, instance)


def _recount(books: Books, attempt: Attempt, instance: Instance) -> None:
    """The steps that it has done are no work to come any more."""
    roster, post = attempt.model.rosters[attempt.role], instance.posts[attempt.role]
    if roster.by_cost and attempt.steps > 0:
        left = max(0.0, 1.0 - attempt.step / attempt.steps)
        post.working.revise(attempt, attempt.cost * left)
        roster.refresh(post)


def _unwritten(books: Books, attempt: Attempt, lease: Lease, may_land: bool) -> None:
    """The sender gave up writing into what it was granted."""
    if may_land:
        ending.withdraw(books, attempt)
        ending.pin(books, lease)
        attempt.outgoing = None
    else:
        _give_back(books, attempt)


def _keep(books: Books, attempt: Attempt, instance: Instance) -> None:
    """The compute is done, and its capacity free; the payload stays in the outbox."""
    post = instance.posts[attempt.post_role]
    post.working.pop(attempt, None)
    post.looking.pop(attempt, None)
    attempt.model.due.discard(attempt.serial)
    instance.outbox[attempt] = None
    books.ledger.stalls.discard(attempt.serial)
    books.stir(instance)


def _give_back(books: Books, attempt: Attempt) -> None:
    """The sender will not write into what it was granted."""
    ending.withdraw(books, attempt)
    lease = attempt.outgoing
    if lease is not None and not lease.pinned:
        attempt.outgoing = None
        ending.free(books, lease)


def _blame(books: Books, attempt: Attempt, sender: Instance, receiver: Instance) -> None:
    """A write there failed. A copy that could not be written speaks against no request's going."""
    if attempt.copy:
        copies.failed(books, sender, receiver)
        return
    attempt.blamed.add(receiver.name)
    attempt.request.avoid.add(receiver.name)


def _breach(books: Books, attempt: Attempt, instance: Instance, what: str) -> bool:
    """The worker broke the protocol: this costs the request, and a line in the log."""
    books.count("protocol_breaches")
    text = f"{instance.name} ({attempt.role}) broke the protocol: {what}"
    ending.fail(books, attempt, ErrorInfo("internal", text, None, instance.name))
    return True


def _signed(error: ErrorInfo, instance: Instance) -> ErrorInfo:
    """Says which instance it was, if the error does not."""
    if error.instance is not None:
        return error
    return error.but(instance=instance.name)
