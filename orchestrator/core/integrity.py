"""Whether everything adds up: slots, capacity, and who holds what."""

from collections.abc import Iterator

from orchestrator.core.books import Books
from orchestrator.core.instances import Instance, Post
from orchestrator.core.requests import Request, State


class IntegrityError(AssertionError):
    """The books contradict themselves."""


def check(books: Books) -> None:
    """Raises `IntegrityError` with everything that does not add up. Looks at all there is."""
    found = complaints(books)
    if found:
        raise IntegrityError("\n".join(found))


def complaints(books: Books) -> list[str]:
    found = [*_counts(books)]
    for instance in books.registry.live.values():
        found += _instance(books, instance)
    for request in (*books.ledger.active.values(), *books.ledger.lingering.values()):
        found += (f"request {request.id}: {text}" for text in _request(request))
    if books.ledger.idle:
        found += _idle(books)
    return found


def _counts(books: Books) -> Iterator[str]:
    ledger = books.ledger
    queued = sum(x.state is State.QUEUED for x in ledger.active.values())
    if queued != ledger.queued:
        yield f"{queued} requests queued, counted {ledger.queued}"
    if len(ledger.deadlines) != len(ledger.active):
        yield f"{len(ledger.deadlines)} deadlines of {len(ledger.active)} requests"
    if len(ledger.reminders) != len(ledger.lingering):
        yield f"{len(ledger.reminders)} reminders of {len(ledger.lingering)} aborts"
    lined = sum(len(line) for line in ledger.lines.values())
    waiting = sum(x.state in (State.QUEUED, State.STAGED) for x in ledger.active.values())
    if lined != waiting:
        yield f"{waiting} requests wait, {lined} stand in line"


def _instance(books: Books, instance: Instance) -> Iterator[str]:
    for text in instance.slots.complaints():
        yield f"{instance}: {text}"
    if instance.slots.owner is not instance:
        yield f"{instance}: its slots belong to {instance.slots.owner}"
    for lease in instance.borrowed.values():
        if lease.sender is not instance.borrowed or lease.state not in ("granted", "quarantined"):
            yield f"{instance}: borrows grant {lease.generation}, which is {lease.state}"
    for post in instance.posts.values():
        for text in _post(books, post):
            yield f"{instance} as {post.role}: {text}"


def _post(books: Books, post: Post) -> Iterator[str]:
    if len(post.working) > post.capacity:
        yield f"{len(post.working)} requests, capacity {post.capacity}"
    for request in post.working:
        known = books.ledger.find(request.id, request.attempt) is request
        if not known or request.worker is not post.instance:
            yield f"works on {request.id}, which is {request.state} at {request.worker}"
    expected = [(post.parked, State.DELIVERED), (post.pushing, State.PUSHING)]
    for group, state in (*expected, (post.promised, State.COMPUTING)):
        for request in group:
            if request.state is not state:
                yield f"expects {request.id} to be {state}, which is {request.state}"
    if post.parked and len(post.working) < post.capacity and post.instance.live:
        yield "has capacity for what is parked"
    head = books.ledger.lines[post.role].head()
    if head is not None and post.room[0] and post.fits(head.nbytes):
        yield f"has room for {head.id}, which waits"


def _request(request: Request) -> Iterator[str]:
    worker, holds = request.worker, request.state in (State.COMPUTING, State.STAGED, State.PUSHING)
    if holds and worker is None:
        yield f"{request.state} without a worker"
    if worker is not None:
        if not worker.live:
            yield f"held by {worker}, which is lost"
        if (request in worker.posts[request.role].working) == (request in worker.outbox):
            yield f"{request.state}, in neither or both of the ranks and the outbox of {worker}"
    if request.over and worker is None:
        yield "over, held by nobody, and not forgotten"
    if request.state is State.DELIVERED and request.incoming is None:
        yield "delivered into no slots"
    outgoing = request.outgoing
    if outgoing is not None and not request.over and outgoing.state != "granted":
        yield f"granted slots that are {outgoing.state}"
    if request.over and request.outgoing is not None and request.outgoing.state == "granted":
        yield "over, and its grant not in quarantine"


def _idle(books: Books) -> Iterator[str]:
    """With no request under way, slots may only be held by senders that have not confirmed."""
    silent = [x.borrowed for x in _silent(books)]
    for instance in books.registry.live.values():
        slots = instance.slots
        if slots.leased:
            yield f"{instance}: {slots.leased} slots leased while idle"
        for lease in slots.leases.values():
            if not lease.pinned and lease.sender not in silent:
                yield f"{instance}: grant {lease.generation} in quarantine for a live sender"
        if instance.outbox or any(p.load for p in instance.posts.values()):
            yield f"{instance}: holds requests while idle"


def _silent(books: Books) -> Iterator[Instance]:
    """Those that have not yet said that they will not write."""
    yield from books.registry.ghosts.values()
    yield from (instance for instance in books.registry.live.values() if instance.inherits)
