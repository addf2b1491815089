"""What instances say about requests, and what follows from it.

Duplicates, and what comes late or out of order, cost a counter and change nothing: a message
counts only if it fits the request's attempt, worker, role and grant as they are now. A request
that is over still listens, for its capacity and slots have to come home.
"""

from collections.abc import Callable

from orchestrator.core import dispatch, ending
from orchestrator.core.books import Books
from orchestrator.core.commands import Discard, Progress
from orchestrator.core.instances import Instance
from orchestrator.core.requests import Request, State
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Progressed,
    PushFailed,
    Staged,
)

Stage = Accepted | Progressed | Delivered | Staged | PushFailed | Finished | Failed | Aborted


def handle(books: Books, instance: Instance, message: Stage) -> None:
    """One message of the instance that `message.epoch` belongs to."""
    request = _addressed(books, instance, message)
    if request is None:
        return
    handler: Callable[..., bool] = HANDLERS[type(message)]
    if not handler(books, request, instance, message):
        books.count("dropped_unexpected")


def _addressed(books: Books, instance: Instance, message: Stage) -> Request | None:
    request = books.ledger.find(message.request, message.attempt)
    if request is None:
        books.count("dropped_stale_attempt")
        if isinstance(message, Progressed | Staged):
            # It still works on something that nobody wants, or knows, any more.
            books.send(instance, Abort(message.request, message.attempt, "unknown"))
        return None
    right_role = isinstance(message, Aborted) or message.role == request.role
    if request.worker is not instance or not right_role:
        books.count("dropped_unexpected")
        return None
    return request


def accepted(books: Books, request: Request, instance: Instance, message: Accepted) -> bool:
    if request.incoming is None or request.incoming.generation != message.generation:
        return False
    ending.release_incoming(books, request)
    return True


def progressed(books: Books, request: Request, instance: Instance, message: Progressed) -> bool:
    if request.over:
        return True  # it has not seen our Abort yet
    if request.state is not State.COMPUTING or message.step <= request.step:
        return False
    request.step, request.steps = message.step, message.steps
    progress = Progress(
        request.id, request.attempt, message.role, instance.name, message.step, message.steps
    )
    books.commands.append(progress)
    return True


def delivered(books: Books, request: Request, instance: Instance, message: Delivered) -> bool:
    if request.over:
        # Written before our Abort came. The sender is done with the slots, and with the request.
        if request.outgoing is not None and request.outgoing.generation != message.generation:
            return False
        ending.confirm(books, request, message.generation)
        return True
    lease = request.outgoing
    if lease is None or lease.generation != message.generation:
        return False
    if not 0 < message.nbytes <= lease.room:
        text = f"said to have written {message.nbytes} bytes into slots of {lease.room}"
        return _breach(books, request, instance, text)
    request.report(request.role, message.report)
    books.learn(request.role, message.nbytes)
    lease.deliver(message.nbytes, message.checksum)
    ending.part(books, request)
    request.move(State.DELIVERED, books.now, str(lease.table.owner))
    request.stage += 1
    dispatch.park(books, request, lease)
    return True


def staged(books: Books, request: Request, instance: Instance, message: Staged) -> bool:
    lease = request.outgoing
    released = lease is not None and lease.generation == message.released
    if request.over:
        if lease is not None and released:
            _give_back(books, request)
        _keep(books, request, instance)
        return True
    if request.state is State.STAGED or (request.state is State.PUSHING and not released):
        return False  # said again
    if request.last or message.nbytes <= 0:
        return _breach(books, request, instance, f"staged {message.nbytes} bytes")
    request.report(request.role, message.report)
    books.learn(request.role, message.nbytes)
    if released:
        _give_back(books, request)
    elif lease is not None:
        # It was granted something, and has not said that it will leave it alone.
        books.count("protocol_breaches")
        ending.withdraw(books, request)
        request.outgoing = None
    ending.release_incoming(books, request)
    _keep(books, request, instance)
    request.nbytes = message.nbytes
    request.move(State.STAGED, books.now, f"{message.nbytes} bytes")
    return _wait_for_room(books, request, instance)


def push_failed(books: Books, request: Request, instance: Instance, message: PushFailed) -> bool:
    lease = request.outgoing
    if lease is None or lease.generation != message.generation:
        return False
    if message.may_land:
        ending.withdraw(books, request)
        ending.pin(books, lease)
    else:
        _give_back(books, request)
    ending.release_incoming(books, request)
    _keep(books, request, instance)
    if not request.over:
        ending.fail(books, request, _signed(message.error, instance))
    return True


def finished(books: Books, request: Request, instance: Instance, message: Finished) -> bool:
    if request.state in (State.FAILED, State.CANCELLED):
        # made before our Abort came
        books.commands.append(Discard(message.media))
        ending.confirm(books, request, None)
        return True
    if request.state is not State.COMPUTING:
        return False
    if not request.last or not message.media:
        books.commands.append(Discard(message.media))
        ending.confirm(books, request, None)
        return _breach(books, request, instance, f"finished with {len(message.media)} media")
    request.report(request.role, message.report)
    ending.complete(books, request, message.media)
    return True


def failed(books: Books, request: Request, instance: Instance, message: Failed) -> bool:
    ending.confirm(books, request, message.released)
    if not request.over:
        ending.fail(books, request, _signed(message.error, instance))
    return True


def aborted(books: Books, request: Request, instance: Instance, message: Aborted) -> bool:
    ending.confirm(books, request, message.released)
    if not request.over:
        text = f"{instance.name} gave the request up unasked"
        ending.fail(books, request, ErrorInfo("internal", text, None, instance.name))
    return True


HANDLERS: dict[type[Stage], Callable[..., bool]] = {
    Accepted: accepted,
    Progressed: progressed,
    Delivered: delivered,
    Staged: staged,
    PushFailed: push_failed,
    Finished: finished,
    Failed: failed,
    Aborted: aborted,
}


def _wait_for_room(books: Books, request: Request, instance: Instance) -> bool:
    if error := dispatch.too_large(books, request):
        ending.fail(books, request, error)
    elif request.pushes >= books.config.max_pushes:
        text = f"{instance.name} gave back {request.pushes} grants for one payload"
        ending.fail(books, request, ErrorInfo("transfer_failed", text, None, instance.name))
    else:
        dispatch.join(books, request)
    return True


def _keep(books: Books, request: Request, instance: Instance) -> None:
    """The compute is done, and its capacity free; the payload stays in the outbox."""
    instance.posts[request.role].working.pop(request, None)
    instance.outbox[request] = None
    books.stir(instance)


def _give_back(books: Books, request: Request) -> None:
    """The sender will not write into what it was granted."""
    ending.withdraw(books, request)
    lease = request.outgoing
    if lease is not None and not lease.pinned:
        request.outgoing = None
        ending.free(books, lease)


def _breach(books: Books, request: Request, instance: Instance, what: str) -> bool:
    """The worker broke the protocol: this costs the request, and a line in the log."""
    books.count("protocol_breaches")
    text = f"{instance.name} ({request.role}) broke the protocol: {what}"
    ending.fail(books, request, ErrorInfo("internal", text, None, instance.name))
    return True


def _signed(error: ErrorInfo, instance: Instance) -> ErrorInfo:
    """Says which instance it was, if the error does not."""
    if error.instance is not None:
        return error
    return ErrorInfo(
        error.kind, error.message, error.param, instance.name, error.rank, error.traceback
    )
