"""Who gets what next: work, promises and pushes, by class and in the order of the lines.

All of it happens in `settle`, at the end of each event, when the books say how things are.
Between two events it holds that no line's head fits anywhere.
"""

from collections.abc import Callable

from orchestrator.core import changes, ending
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.commands import Progress
from orchestrator.core.instances import Instance, Post
from orchestrator.core.models import Model
from orchestrator.core.queues import Queue
from orchestrator.core.rosters import Roster
from orchestrator.core.slots import Lease
from transfer.costs import Shape
from transfer.messages import Delivery, Drain, ErrorInfo, Grant, Push, Role, Work

# A promise is a convenience: without one the payload is staged first. So the search for an
# instance that has enough slots for it is short.
PROMISES_TRIED = 8
FIRST: tuple[Role, ...] = ("encoder", "monolithic")  # what begins there has nothing computed yet


def settle(books: Books) -> None:
    """Carries out whatever has become possible."""
    stirred, calls, backoffs = books.stirred, books.calls, books.ledger.backoffs
    while True:
        while (attempt := backoffs.pop_until(books.now)) is not None:
            join(books, attempt)
        if stirred:
            _review(books, stirred.popitem()[0])
        elif calls:
            _serve(books, *next(iter(calls)))
        else:
            return


def join(books: Books, attempt: Attempt) -> None:
    """The attempt waits for room in its first role, or, staged, in the next one."""
    role, model = attempt.waits_for, attempt.model
    lines = model.lines
    if attempt.request.avoid:
        lines = model.wary
        due = books.now + books.config.patience_s
        books.ledger.patience.put(due, attempt.serial, attempt)
    lines[role].put(attempt)
    books.call(model, role)


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
    post.parked.enter(attempt, attempt.model.forecast.seconds(attempt, post))
    attempt.incoming = lease
    books.stir(receiver)


def too_large(books: Books, attempt: Attempt) -> ErrorInfo | None:
    """Why the staged payload can go nowhere, if every instance of the next role is too small."""
    role = attempt.next_role
    limit = attempt.model.rosters[role].largest_pool
    if not limit or attempt.nbytes <= limit:
        return None
    text = f"a payload of {attempt.nbytes} bytes for the {role}, whose slots hold {limit} in all"
    return ErrorInfo("payload_too_large", f"{text}; give it more with --slots or --slot-bytes")


def _review(books: Books, instance: Instance) -> None:
    """Brings the rosters up to date with an instance that was stirred."""
    model = instance.model
    for post in instance.posts.values():
        while instance.live and (attempt := post.next_parked()) is not None:
            del post.parked[attempt]
            _start(books, attempt, post)
        model.rosters[post.role].refresh(post)
        if any(model.waiting(post.role)):
            books.call(model, post.role)
    if not model.whole:
        model.whole = not model.missing()
    if not instance.tidy:
        changes.equip(books, instance)
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


def _serve(books: Books, model: Model, role: Role) -> None:
    """Gives the head of a line its room; the role is called again while that succeeds."""
    if role in FIRST and changes.holds(model):
        del books.calls[model, role]
        return
    for queue in model.waiting(role):
        for attempt in queue.heads():
            if _place(books, attempt, role, queue):
                return
    del books.calls[model, role]


def _place(books: Books, attempt: Attempt, role: Role, queue: Queue) -> bool:
    if attempt.state is State.STAGED and (error := too_large(books, attempt)):
        ending.fail(books, attempt, error)
        return True
    roster, likes = attempt.model.rosters[role], choice(attempt, role)
    post = _best(
        attempt,
        roster,
        lambda shape: roster.find(
            roster.rooms(attempt.priority, shape).now,
            lambda post: post.fits(attempt.nbytes) and likes(post),
        ),
    )
    if post is None:
        return False
    queue.took(attempt)
    books.ledger.step_out(attempt)
    if attempt.state is State.STAGED:
        _push(books, attempt, post)
    else:
        attempt.model.queued -= 1
        _start(books, attempt, post)
    return True


def _best(
    attempt: Attempt, roster: Roster, find: Callable[[Shape | None], Post | None]
) -> Post | None:
    """The policy's choice, which `find` looks for; or the best of those that compute the same
    shape, if the request would be done sooner there, because it may share forwards."""
    post = find(None)
    if post is None:
        return None
    if roster.by_cost:
        shape = attempt.request.works[roster.role].shape
        mate = find(shape) if shape not in post.shapes else None
        if mate is not None and _until(attempt, mate) < _until(attempt, post):
            post = mate
    roster.chose(post)
    return post


def _until(attempt: Attempt, post: Post) -> float:
    """Predicted seconds until it is done there."""
    own = post.pace * attempt.model.forecast.seconds(attempt, post)
    return post.backlog(attempt.priority) + own


def choice(attempt: Attempt, role: Role) -> Callable[[Post], bool]:
    """Where the attempt may go: anywhere at first. After a failure to no instance at which the
    request failed, and to none that is suspect, as long as there is a better one that is ready."""
    avoid = attempt.request.avoid
    if not avoid:
        return _anywhere

    def new(post: Post) -> bool:
        return post.instance.name not in avoid and post.could_take(attempt.nbytes)

    def good(post: Post) -> bool:
        return new(post) and not post.suspect

    roster = attempt.model.rosters[role]
    return good if roster.has(good) else new if roster.has(new) else _anywhere


def choosy(attempt: Attempt, role: Role) -> bool:
    """Whether there are instances that it prefers to others."""
    return choice(attempt, role) is not _anywhere


def has_room_elsewhere(attempt: Attempt, nbytes: int) -> bool:
    """Whether another instance of the attempt's role could take it up now."""
    worker, likes = attempt.worker, choice(attempt, attempt.role)

    def fits(post: Post) -> bool:
        other = post.instance is not worker
        return other and post.room(attempt.priority)[0] and post.fits(nbytes) and likes(post)

    model, role = attempt.model, attempt.role
    waiting = any(line.ahead_of(attempt.priority) for line in model.waiting(role))
    return not waiting and model.rosters[role].has(fits)


def _anywhere(post: Post) -> bool:
    return True


def _start(books: Books, attempt: Attempt, post: Post) -> None:
    """Sends the work of the request's stage, with a promise for its payload where there is room."""
    instance, lease, request = post.instance, attempt.incoming, attempt.request
    of = request.preview_of
    if not attempt.started:
        attempt.started = True
        request.tries += 1
    attempt.worker, attempt.held = instance, attempt.number
    attempt.step = attempt.steps = attempt.generation = 0
    request.reports.pop(post.role, None)
    attempt.cost = attempt.model.forecast.seconds(attempt, post)
    attempt.company = request.works[post.role].shape in post.shapes
    post.working.enter(attempt, attempt.cost)
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
        preview_of=None if of is None else (of.id, of.number),
        previews=request.previews,
        uploads_port=books.config.uploads_port if request.inputs.uploads else None,
    )
    books.send(instance, work)
    if of is None:
        progress = Progress(request.id, request.tries, post.role, instance.name, 0, 0)
        books.commands.append(progress)
    watch(books, attempt)
    books.stir(instance)


def watch(books: Books, attempt: Attempt) -> None:
    """The attempt's instance has given a sign of progress; the next one is due in time."""
    due = books.now + books.config.stall_s
    books.ledger.stalls.put(due, attempt.serial, attempt)


def only_waits(books: Books, attempt: Attempt) -> bool:
    """Whether it may be silent because it waits inside its instance: for its turn, which others may
    have before it, or with its payload for room in the outbox. Then somebody else gets on there,
    or is staged."""
    worker = attempt.worker
    if worker is None or attempt.state is not State.COMPUTING:
        return False
    moved_at = worker.posts[attempt.post_role].moved_at
    return bool(worker.outbox) or moved_at + books.config.stall_s > books.now


def _promise(books: Books, attempt: Attempt) -> Grant | None:
    """Slots for a payload of the size that is usual; but whoever waits there goes first, and as
    much must stay free, so that a slow stage does not keep others from its receiver."""
    role, model = attempt.next_role, attempt.model
    if model.lines[role].ahead_of(attempt.priority):
        return None
    usual, likes = model.expect(attempt.role), choice(attempt, role)
    roster = model.rosters[role]

    def find(shape: Shape | None) -> Post | None:
        tried = 0

        def roomy(post: Post) -> bool:
            nonlocal tried
            tried += 1
            slots = post.instance.slots
            roomy = 2 * slots.need(usual) <= slots.free
            return tried > PROMISES_TRIED or (roomy and likes(post))

        post = roster.find(roster.rooms(attempt.priority, shape).ahead, roomy)
        return None if tried > PROMISES_TRIED else post

    post = _best(attempt, roster, find)
    if post is None:
        return None
    books.count("grants_promised")
    post.promised.enter(attempt, model.forecast.seconds(attempt, post))
    return grant(books, attempt, post, usual)


def _push(books: Books, attempt: Attempt, post: Post) -> None:
    """Tells the sender to write what it has staged."""
    books.count("grants_pushed")
    sender = attempt.worker
    assert sender is not None
    attempt.pushes += 1
    post.pushing.enter(attempt, attempt.model.forecast.seconds(attempt, post))
    watch(books, attempt)
    attempt.move(State.PUSHING, books.now, str(post.instance))
    room = grant(books, attempt, post, attempt.nbytes)
    about = (sender.epoch, attempt.id, attempt.number, attempt.role, attempt.held)
    books.send(sender, Push(*about, room, attempt.midway))


def grant(books: Books, attempt: Attempt, post: Post, nbytes: int) -> Grant:
    """Leases slots for a payload of that size to the attempt's worker."""
    sender, receiver = attempt.worker, post.instance
    assert sender is not None
    assert receiver.model is sender.model
    count = receiver.slots.need(nbytes)
    _clear(books, receiver, count)
    lease = receiver.slots.lend(
        books.next_generation(),
        attempt.id,
        attempt.number,
        count,
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


def _clear(books: Books, receiver: Instance, count: int) -> None:
    """Copies that lie there give way, the oldest first."""
    lying = [copy for copy in receiver.copies if copy.state is State.DELIVERED]
    while receiver.slots.empty < count and lying:
        ending.drop_copy(books, lying.pop(0))
