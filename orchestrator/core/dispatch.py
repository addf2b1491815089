"""Who gets what next: work, promises and pushes, oldest request first.

All of it happens in `settle`, at the end of each event, when the books say how things are.
Between two events it holds that a line's head fits nowhere.
"""

from collections.abc import Set

from orchestrator.core import ending
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.commands import Progress
from orchestrator.core.instances import Instance, Post
from orchestrator.core.slots import Lease
from transfer.messages import Delivery, Drain, ErrorInfo, Grant, Push, Role, Work

# A promise is a convenience: without one the payload is staged first. So the search for an
# instance that has enough slots for it is short.
PROMISES_TRIED = 8


def settle(books: Books) -> None:
    """Carries out whatever has become possible."""
    stirred, calls, backoffs = books.stirred, books.calls, books.ledger.backoffs
    while True:
        while (attempt := backoffs.pop_until(books.now)) is not None:
            join(books, attempt)
        if stirred:
            _review(books, stirred.popitem()[0])
        elif calls:
            _serve(books, next(iter(calls)))
        else:
            return


def join(books: Books, attempt: Attempt) -> None:
    """The attempt waits for room in its first role, or, staged, in the next one."""
    role, ledger = attempt.waits_for, books.ledger
    lines = ledger.wary if attempt.request.avoid else ledger.lines
    lines[role].put(attempt.request.order, attempt.serial, attempt)
    books.calls[role] = None


def park(books: Books, attempt: Attempt, lease: Lease) -> None:
    """The stage's payload was delivered to the instance whose slots these are."""
    receiver = lease.table.owner
    assert receiver is not None
    post = receiver.posts[attempt.role]
    post.forget(attempt)
    post.parked[attempt] = None
    attempt.incoming = lease
    books.stir(receiver)


def too_large(books: Books, attempt: Attempt) -> ErrorInfo | None:
    """Why the staged payload can go nowhere, if every instance of the next role is too small."""
    role = attempt.next_role
    limit = books.registry.rosters[role].largest_pool
    if not limit or attempt.nbytes <= limit:
        return None
    text = f"a payload of {attempt.nbytes} bytes for the {role}, whose slots hold {limit} in all"
    return ErrorInfo("payload_too_large", f"{text}; give it more with --slots or --slot-bytes")


def _review(books: Books, instance: Instance) -> None:
    """Brings the rosters up to date with an instance that was stirred."""
    for post in instance.posts.values():
        while instance.live and post.parked and len(post.working) < post.capacity:
            attempt = next(iter(post.parked))
            del post.parked[attempt]
            _start(books, attempt, post)
        books.registry.rosters[post.role].refresh(post)
        if books.ledger.lines[post.role] or books.ledger.wary[post.role]:
            books.calls[post.role] = None
    if instance.live and instance.draining and not (instance.drain_sent or instance.expecting):
        # What it knows of it finishes by itself, but of a payload that will come it knows nothing.
        instance.drain_sent = True
        books.send(instance, Drain())


def _serve(books: Books, role: Role) -> None:
    """Gives the head of a line its room; the role is called again while that succeeds."""
    for line in (books.ledger.wary[role], books.ledger.lines[role]):
        attempt = line.head()
        if attempt is not None and _place(books, attempt, role):
            return
    del books.calls[role]


def _place(books: Books, attempt: Attempt, role: Role) -> bool:
    if attempt.state is State.STAGED and (error := too_large(books, attempt)):
        ending.fail(books, attempt, error)
        return True
    roster, shunned = books.registry.rosters[role], shuns(books, attempt, role)
    post = roster.pick(
        roster.now, lambda post: post.fits(attempt.nbytes) and post.instance.name not in shunned
    )
    if post is None:
        return False
    books.ledger.step_out(attempt)
    if attempt.state is State.STAGED:
        _push(books, attempt, post)
    else:
        books.ledger.queued -= 1
        _start(books, attempt, post)
    return True


def shuns(books: Books, attempt: Attempt, role: Role) -> Set[str]:
    """The instances that the attempt must not go to, because the request failed there before; none
    if there is no other one that is ready, and could ever take its payload."""
    avoid = attempt.request.avoid
    others = (
        post for post in books.registry.rosters[role].ready() if post.instance.name not in avoid
    )
    if not avoid or any(post.holds(attempt.nbytes) for post in others):
        return avoid
    return frozenset()


def _start(books: Books, attempt: Attempt, post: Post) -> None:
    """Sends the work of the request's stage, with a promise for its payload where there is room."""
    instance, lease, request = post.instance, attempt.incoming, attempt.request
    if not attempt.started:
        attempt.started = True
        request.tries += 1
    attempt.worker, attempt.held = instance, attempt.number
    attempt.step = attempt.steps = attempt.generation = 0
    request.reports.pop(post.role, None)
    post.working[attempt] = None
    attempt.move(State.COMPUTING, books.now, str(instance))
    delivery = None
    if lease is not None:
        delivery = Delivery(lease.generation, lease.slots, lease.nbytes, lease.checksum)
    work = Work(
        epoch=instance.epoch,
        request=attempt.id,
        attempt=attempt.number,
        role=post.role,
        last=attempt.last,
        inputs=request.inputs,
        seconds=max(0.0, request.deadline - books.now),
        delivery=delivery,
        grant=None if attempt.last else _promise(books, attempt),
    )
    books.send(instance, work)
    progress = Progress(request.id, request.tries, post.role, instance.name, 0, 0)
    books.commands.append(progress)
    watch(books, attempt)
    books.stir(instance)


def watch(books: Books, attempt: Attempt) -> None:
    """The attempt's instance has given a sign of progress; the next one is due in time."""
    due = books.now + books.config.stall_s
    books.ledger.stalls.put(due, attempt.serial, attempt)


def _promise(books: Books, attempt: Attempt) -> Grant | None:
    """Slots for a payload of the size that is usual; but whoever waits there goes first, and as
    much must stay free, so that a slow stage does not keep others from its receiver."""
    role = attempt.next_role
    if books.ledger.lines[role] or books.ledger.wary[role]:
        return None
    usual, shunned = books.expect(attempt.role), shuns(books, attempt, role)
    tried = 0

    def roomy(post: Post) -> bool:
        nonlocal tried
        tried += 1
        instance = post.instance
        roomy = 2 * instance.slots.need(usual) <= instance.slots.free
        return tried > PROMISES_TRIED or (roomy and instance.name not in shunned)

    roster = books.registry.rosters[role]
    post = roster.pick(roster.ahead, roomy)
    if post is None or tried > PROMISES_TRIED:
        return None
    books.count("grants_promised")
    post.promised[attempt] = None
    return _grant(books, attempt, post, usual)


def _push(books: Books, attempt: Attempt, post: Post) -> None:
    """Tells the sender to write what it has staged."""
    books.count("grants_pushed")
    sender = attempt.worker
    assert sender is not None
    attempt.pushes += 1
    post.pushing[attempt] = None
    attempt.move(State.PUSHING, books.now, str(post.instance))
    grant = _grant(books, attempt, post, attempt.nbytes)
    books.send(
        sender, Push(sender.epoch, attempt.id, attempt.number, attempt.role, attempt.held, grant)
    )


def _grant(books: Books, attempt: Attempt, post: Post, nbytes: int) -> Grant:
    sender, receiver = attempt.worker, post.instance
    assert sender is not None
    lease = receiver.slots.lend(
        books.next_generation(),
        attempt.id,
        attempt.number,
        receiver.slots.need(nbytes),
        sender.borrowed,
    )
    attempt.outgoing, attempt.generation = lease, lease.generation
    books.stir(receiver)
    return Grant(
        request=attempt.id,
        attempt=attempt.number,
        generation=lease.generation,
        receiver=receiver.name,
        receiver_epoch=receiver.epoch,
        slots=lease.slots,
        seconds=max(0.0, attempt.request.deadline - books.now),
        pool=receiver.info.pool,
    )
