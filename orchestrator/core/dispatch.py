"""Who gets what next: work, promises and pushes, oldest request first.

All of it happens in `settle`, at the end of each event, when the books say how things are.
Between two events it holds that a line's head fits nowhere.
"""

from orchestrator.core import ending
from orchestrator.core.books import Books
from orchestrator.core.commands import Progress
from orchestrator.core.instances import Instance, Post
from orchestrator.core.requests import Request, State
from orchestrator.core.slots import Lease
from transfer.messages import Delivery, Drain, ErrorInfo, Grant, Push, Role, Work

# A promise is a convenience: without one the payload is staged first. So the search for an
# instance that has enough slots for it is short.
PROMISES_TRIED = 8


def settle(books: Books) -> None:
    """Carries out whatever has become possible."""
    stirred, calls = books.stirred, books.calls
    while stirred or calls:
        while stirred:
            _review(books, stirred.popitem()[0])
        if calls:
            _serve(books, next(iter(calls)))


def join(books: Books, request: Request) -> None:
    """The request waits for room in its first role, or, staged, in the next one."""
    role = request.next_role if request.state is State.STAGED else request.role
    books.ledger.lines[role].put(request.number, request.number, request)
    books.calls[role] = None


def park(books: Books, request: Request, lease: Lease) -> None:
    """The stage's payload was delivered to the instance whose slots these are."""
    receiver = lease.table.owner
    assert receiver is not None
    post = receiver.posts[request.role]
    post.forget(request)
    post.parked[request] = None
    request.incoming = lease
    books.stir(receiver)


def too_large(books: Books, request: Request) -> ErrorInfo | None:
    """Why the staged payload can go nowhere, if every instance of the next role is too small."""
    role = request.next_role
    limit = books.registry.rosters[role].largest_pool
    if not limit or request.nbytes <= limit:
        return None
    text = f"a payload of {request.nbytes} bytes for the {role}, whose slots hold {limit} in all"
    return ErrorInfo("payload_too_large", f"{text}; give it more with --slots or --slot-bytes")


def _review(books: Books, instance: Instance) -> None:
    """Brings the rosters up to date with an instance that was stirred."""
    for post in instance.posts.values():
        while instance.live and post.parked and len(post.working) < post.capacity:
            request = next(iter(post.parked))
            del post.parked[request]
            _start(books, request, post)
        books.registry.rosters[post.role].refresh(post)
        if books.ledger.lines[post.role]:
            books.calls[post.role] = None
    if instance.live and instance.draining and not (instance.drain_sent or instance.expecting):
        # What it knows of it finishes by itself, but of a payload that will come it knows nothing.
        instance.drain_sent = True
        books.send(instance, Drain())


def _serve(books: Books, role: Role) -> None:
    """Gives the head of a line its room; the line is called again while that succeeds."""
    request = books.ledger.lines[role].head()
    if request is None or not _place(books, request, role):
        del books.calls[role]


def _place(books: Books, request: Request, role: Role) -> bool:
    if request.state is State.STAGED and (error := too_large(books, request)):
        ending.fail(books, request, error)
        return True
    roster = books.registry.rosters[role]
    post = roster.pick(roster.now, lambda post: post.fits(request.nbytes))
    if post is None:
        return False
    books.ledger.lines[role].discard(request.number)
    if request.state is State.STAGED:
        _push(books, request, post)
    else:
        books.ledger.queued -= 1
        _start(books, request, post)
    return True


def _start(books: Books, request: Request, post: Post) -> None:
    """Sends the work of the request's stage, with a promise for its payload where there is room."""
    instance, lease = post.instance, request.incoming
    request.worker = instance
    request.step = request.steps = 0
    post.working[request] = None
    request.move(State.COMPUTING, books.now, str(instance))
    delivery = None
    if lease is not None:
        delivery = Delivery(lease.generation, lease.slots, lease.nbytes, lease.checksum)
    work = Work(
        request=request.id,
        attempt=request.attempt,
        role=post.role,
        last=request.last,
        inputs=request.inputs,
        seconds=max(0.0, request.deadline - books.now),
        delivery=delivery,
        grant=None if request.last else _promise(books, request),
    )
    books.send(instance, work)
    progress = Progress(request.id, request.attempt, post.role, instance.name, 0, 0)
    books.commands.append(progress)
    books.stir(instance)


def _promise(books: Books, request: Request) -> Grant | None:
    """Slots for a payload of the size that is usual; but whoever waits there goes first, and as
    much must stay free, so that a slow stage does not keep others from its receiver."""
    role = request.next_role
    if books.ledger.lines[role]:
        return None
    usual = books.expect(request.role)
    tried = 0

    def roomy(post: Post) -> bool:
        nonlocal tried
        tried += 1
        slots = post.instance.slots
        return tried > PROMISES_TRIED or 2 * slots.need(usual) <= slots.free

    roster = books.registry.rosters[role]
    post = roster.pick(roster.ahead, roomy)
    if post is None or tried > PROMISES_TRIED:
        return None
    books.count("grants_promised")
    post.promised[request] = None
    return _grant(books, request, post, usual)


def _push(books: Books, request: Request, post: Post) -> None:
    """Tells the sender to write what it has staged."""
    books.count("grants_pushed")
    sender = request.worker
    assert sender is not None
    request.pushes += 1
    post.pushing[request] = None
    request.move(State.PUSHING, books.now, str(post.instance))
    grant = _grant(books, request, post, request.nbytes)
    books.send(sender, Push(request.id, request.attempt, grant))


def _grant(books: Books, request: Request, post: Post, nbytes: int) -> Grant:
    sender, receiver = request.worker, post.instance
    assert sender is not None
    lease = receiver.slots.lend(
        books.next_generation(),
        request.id,
        request.attempt,
        receiver.slots.need(nbytes),
        sender.borrowed,
    )
    request.outgoing = lease
    books.stir(receiver)
    return Grant(
        request=request.id,
        attempt=request.attempt,
        generation=lease.generation,
        receiver=receiver.name,
        receiver_epoch=receiver.epoch,
        slots=lease.slots,
        seconds=max(0.0, request.deadline - books.now),
        pool=receiver.info.pool,
    )
