"""Who gets what next: work, promises and pushes, oldest request first.

All of it happens in `settle`, at the end of each event, when the books say how things are.
Between two events it holds that a line's head fits nowhere.
"""

from collections.abc import Callable

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
    lines = ledger.lines
    if attempt.request.avoid:
        lines = ledger.wary
        ledger.patience.put(books.now + books.config.patience_s, attempt.serial, attempt)
    lines[role].put(attempt.request.order, attempt.serial, attempt)
    books.calls[role] = None


def settle_for_any(books: Books, attempt: Attempt) -> None:
    """It has looked for another instance for long enough."""
    books.ledger.step_out(attempt)
    attempt.request.avoid.clear()
    join(books, attempt)


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
    if instance.live and instance.draining and not instance.drain_sent:
        _drain(books, instance)


def _drain(books: Books, instance: Instance) -> None:
    """Tells it that nothing more will come: of a payload that will, or that is to go elsewhere, it
    knows nothing. Before that, that some of its work may be moved."""
    if not (instance.expecting or instance.moving):
        instance.drain_sent = True
        books.send(instance, Drain())
    elif instance.moving and not instance.drain_told:
        instance.drain_told = True
        books.send(instance, Drain(more=True))


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
    roster, likes = books.registry.rosters[role], choice(books, attempt, role)
    post = roster.pick(roster.now, lambda post: post.fits(attempt.nbytes) and likes(post))
    if post is None:
        return False
    books.ledger.step_out(attempt)
    if attempt.state is State.STAGED:
        _push(books, attempt, post)
    else:
        books.ledger.queued -= 1
        _start(books, attempt, post)
    return True


def choice(books: Books, attempt: Attempt, role: Role) -> Callable[[Post], bool]:
    """Where the attempt may go: anywhere at first. After a failure to no instance at which the
    request failed, and to none that is suspect, as long as there is a better one that is ready."""
    avoid = attempt.request.avoid
    if not avoid:
        return _anywhere

    def new(post: Post) -> bool:
        return post.instance.name not in avoid and post.could_take(attempt.nbytes)

    def good(post: Post) -> bool:
        return new(post) and not post.suspect

    roster = books.registry.rosters[role]
    return good if roster.has(good) else new if roster.has(new) else _anywhere


def choosy(books: Books, attempt: Attempt, role: Role) -> bool:
    """Whether there are instances that it prefers to others."""
    return choice(books, attempt, role) is not _anywhere


def has_room_elsewhere(books: Books, attempt: Attempt, nbytes: int) -> bool:
    """Whether another instance of the attempt's role could take it up now."""
    worker, likes = attempt.worker, choice(books, attempt, attempt.role)

    def fits(post: Post) -> bool:
        other = post.instance is not worker
        return other and post.room[0] and post.fits(nbytes) and likes(post)

    line = books.ledger.lines[attempt.role] or books.ledger.wary[attempt.role]
    return not line and books.registry.rosters[attempt.role].has(fits)


def _anywhere(post: Post) -> bool:
    return True


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


def only_waits(books: Books, attempt: Attempt) -> bool:
    """Whether it may be silent because it waits inside its instance: for its first turn, or with
    its payload for room in the outbox. Then somebody else gets on there, or is staged."""
    worker = attempt.worker
    if worker is None or attempt.state is not State.COMPUTING or 0 < attempt.step < attempt.steps:
        return False
    moved_at = worker.posts[attempt.post_role].moved_at
    return bool(worker.outbox) or moved_at + books.config.stall_s > books.now


def _promise(books: Books, attempt: Attempt) -> Grant | None:
    """Slots for a payload of the size that is usual; but whoever waits there goes first, and as
    much must stay free, so that a slow stage does not keep others from its receiver."""
    role = attempt.next_role
    if books.ledger.lines[role]:
        return None
    usual, likes = books.expect(attempt.role), choice(books, attempt, role)
    tried = 0

    def roomy(post: Post) -> bool:
        nonlocal tried
        tried += 1
        instance = post.instance
        roomy = 2 * instance.slots.need(usual) <= instance.slots.free
        return tried > PROMISES_TRIED or (roomy and likes(post))

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
    watch(books, attempt)
    attempt.move(State.PUSHING, books.now, str(post.instance))
    grant = _grant(books, attempt, post, attempt.nbytes)
    about = (sender.epoch, attempt.id, attempt.number, attempt.role, attempt.held)
    books.send(sender, Push(*about, grant, attempt.midway))


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
