"""Whether everything adds up: slots, capacity, and who holds what."""

from collections import Counter
from collections.abc import Iterator

from orchestrator.core import changes, dispatch
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.instances import Instance, Post
from orchestrator.core.queues import Queue
from orchestrator.core.requests import Request
from transfer.messages import PRIORITIES, ROLES

WRITABLE = ("granted", "quarantined")
"""A grant whose receiver was lost is in quarantine while its sender goes on."""


class IntegrityError(AssertionError):
    """The books contradict themselves."""


def check(books: Books) -> None:
    """Raises `IntegrityError` with everything that does not add up. Looks at all there is."""
    found = complaints(books)
    if found:
        raise IntegrityError("\n".join(found))


def complaints(books: Books) -> list[str]:
    found = [*_counts(books)]
    waiting = {
        (model, role): queues
        for model in books.models
        for role in ROLES
        if (queues := [queue for queue in model.waiting(role) if queue])
    }
    for instance in books.registry.live.values():
        found += _instance(instance)
        for post in instance.posts.values():
            queues = waiting.get((instance.model, post.role), [])
            if queues or not post.idle:
                found += (f"{instance} as {post.role}: {x}" for x in _post(books, post, queues))
    for request in (*books.ledger.active.values(), *books.ledger.previews.values()):
        found += (f"request {request.id}: {text}" for text in _request(books, request))
    for attempt in (*_current(books), *books.ledger.lingering.values()):
        found += (f"{attempt}: {text}" for text in _attempt(attempt))
    if books.ledger.idle:
        found += _idle(books)
    return found


def _counts(books: Books) -> Iterator[str]:
    ledger = books.ledger
    current = list(_current(books))
    states = Counter(x.state for x in current)
    queued = states[State.QUEUED]
    waits = Counter(x.model for x in current if queued and x.state is State.QUEUED)
    active = Counter(x.model for x in ledger.active.values())
    for model in books.models:
        if (waits[model], active[model]) != (model.queued, model.active):
            counted = f"counted {model.queued} of {model.active}"
            yield f"{model}: {waits[model]} of {active[model]} requests queued, {counted}"
    if len(ledger.deadlines) != len(ledger.active):
        yield f"{len(ledger.deadlines)} deadlines of {len(ledger.active)} requests"
    for preview in ledger.previews.values():
        of = preview.preview_of
        if of is None or of.over or of.request.preview is not preview.attempt:
            yield f"{preview.id} shows {of}, which does not know of it"
    looked = sum(len(model.due) for model in books.models)
    due = [x for x in current if x.serial in x.model.due] if looked else []
    if len(due) != looked or any(x.state is not State.COMPUTING for x in due):
        yield f"previews are due of {due}, and of {looked} in all"
    if len(ledger.reminders) != len(ledger.lingering):
        yield f"{len(ledger.reminders)} reminders of {len(ledger.lingering)} aborts"
    queues = [queue for model in books.models for queue in model.queues()]
    lined = sum(len(queue) for queue in queues if queue) + len(ledger.backoffs)
    waiting = queued + states[State.STAGED]
    if lined != waiting:
        yield f"{waiting} attempts wait, {lined} stand in line"
    if len(ledger.questions) != len(books.questions):
        yield f"{len(ledger.questions)} deadlines of {len(books.questions)} questions"
    for question in books.questions.values():
        lost = [str(x) for x in question.waiting.values() if not x.live]
        if lost or not question.waiting:
            yield f"question {question.number} waits for {lost or 'nobody'}"
    head = books.rests[0] if books.rests else None
    for instance in books.registry.live.values():
        if instance.resting and (head is None or instance.name not in head.names):
            yield f"{instance} is kept from work, and nobody has it sleep"
    busy = states[State.COMPUTING] + states[State.PUSHING]
    if busy != len(ledger.stalls):
        yield f"{busy} attempts compute or write, {len(ledger.stalls)} are watched"


def _current(books: Books) -> Iterator[Attempt]:
    ledger = books.ledger
    requests = (*ledger.active.values(), *ledger.previews.values())
    found = (each for x in requests for each in (x.attempt, x.copy))
    return (each for each in found if each is not None)


def _instance(instance: Instance) -> Iterator[str]:
    for text in instance.slots.complaints():
        yield f"{instance}: {text}"
    for copy in instance.copies:
        lease = copy.incoming or copy.outgoing
        if copy.request.copy is not copy or lease is None or lease.table is not instance.slots:
            yield f"{instance}: has a copy of {copy}, which does not know of it"
    if instance.slots.owner is not instance:
        yield f"{instance}: its slots belong to {instance.slots.owner}"
    for lease in instance.borrowed.values():
        if lease.sender is not instance.borrowed or lease.state not in ("granted", "quarantined"):
            yield f"{instance}: borrows grant {lease.generation}, which is {lease.state}"


def _post(books: Books, post: Post, queues: list[Queue]) -> Iterator[str]:
    """`queues`: those of its role in which anybody waits."""
    for priority in PRIORITIES if len(post.working) > post.capacity else ():
        if post.working.count(priority) > post.capacity:
            yield f"{post.working.count(priority)} {priority} requests, capacity {post.capacity}"
    yield from post.complaints()
    model = post.instance.model
    for attempt in (*post.working, *post.looking):
        if attempt.model is not model:
            yield f"works on {attempt}, which is of {attempt.model}, not of {model}"
        known = books.ledger.find(attempt.id, attempt.number) is attempt
        if not known or attempt.worker is not post.instance:
            yield f"works on {attempt}, which is {attempt.state} at {attempt.worker}"
    expected = [(post.parked, State.DELIVERED), (post.pushing, State.PUSHING)]
    for group, state in (*expected, (post.promised, State.COMPUTING)):
        for attempt in group:
            if attempt.model is not model:
                yield f"expects {attempt}, which is of {attempt.model}, not of {model}"
            if attempt.state is not state:
                yield f"expects {attempt} to be {state}, which is {attempt.state}"
    if post.next_parked() is not None and post.instance.live:
        yield "has capacity for what is parked"
    if not queues or (post.role in dispatch.FIRST and changes.holds(model)):
        return
    for head in (head for queue in queues for head in queue.heads()):
        if not dispatch.choice(head, post.role)(post):
            continue
        if post.room(head.priority)[0] and post.fits(head.nbytes):
            yield f"has room for {head}, which waits"


def _request(books: Books, request: Request) -> Iterator[str]:
    attempt = request.attempt
    if attempt is None or attempt.over:
        yield f"under way, but {attempt} is over"
    if request.copy is not None:
        yield from _copy(books, request.copy)
    if request.tries - request.spared > books.config.max_attempts:
        yield f"{request.tries} attempts were made, {books.config.max_attempts} are allowed"


def _copy(books: Books, copy: Attempt) -> Iterator[str]:
    comes, lies = copy.state is State.PUSHING, copy.state is State.DELIVERED
    if comes == lies or comes != (copy in books.ledger.copying) or not copy.copy:
        yield f"its copy is {copy.state}"
    lease = copy.outgoing if comes else copy.incoming
    owner = None if lease is None else lease.table.owner
    if lease is None or owner is None or copy not in owner.copies or lease.yields != lies:
        yield f"its copy lies at {owner}, which does not know of it"


def _attempt(attempt: Attempt) -> Iterator[str]:
    worker, holds = attempt.worker, attempt.state in (State.COMPUTING, State.STAGED, State.PUSHING)
    if holds and worker is None:
        yield f"{attempt.state} without a worker"
    if worker is not None:
        if not worker.live:
            yield f"held by {worker}, which is lost"
        post = worker.posts[attempt.post_role]
        if (attempt in post.working) + (attempt in post.looking) + (attempt in worker.outbox) != 1:
            yield f"{attempt.state}, not in one of the ranks and the outbox of {worker}"
    if attempt.over and worker is None:
        yield "over, held by nobody, and not forgotten"
    if attempt.state is State.DELIVERED and attempt.incoming is None:
        yield "delivered into no slots"
    outgoing = attempt.outgoing
    if outgoing is not None and not attempt.over and outgoing.state not in WRITABLE:
        yield f"granted slots that are {outgoing.state}"
    if attempt.over and attempt.outgoing is not None and attempt.outgoing.state == "granted":
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
        held = instance.outbox or instance.copies or instance.uncopied
        if held or any(p.load or p.looking for p in instance.posts.values()):
            yield f"{instance}: holds requests while idle"


def _silent(books: Books) -> Iterator[Instance]:
    """Those that have not yet said that they will not write."""
    yield from books.registry.ghosts.values()
    yield from (instance for instance in books.registry.live.values() if instance.inherits)
