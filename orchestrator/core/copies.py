"""Copies of checkpoints: so that a denoiser that dies whole does not take its requests' work along.

A checkpoint lies with the denoiser that made it. A copy of it is pushed to another one, like any
payload, under the number that the next attempt would have; it lies there in leased slots. When the
maker is lost, that attempt begins: its delivery is there already (`core.retry`).

A copy is for the worst case only, so it takes what nobody needs. It is begun where as much room is
left as it takes and nobody waits for slots; once it has arrived, its slots count as free, and
whoever needs them has them at once; while it is written, it is given up as soon as somebody waits.
It computes nothing, takes no place, and is not tried again before the next checkpoint. Each maker
sends one at a time.
"""

from itertools import islice

from orchestrator.core import dispatch, ending, retry
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.instances import RECEIVERS, Instance, Post
from orchestrator.core.slots import Lease
from transfer.messages import Push

TRIED = 8  # instances, from the one on that comes after the maker: the search is short
ESTRANGED_S = 30.0  # after a copy that could not be written, until the next one to that instance


def consider(books: Books, attempt: Attempt) -> None:
    """Its worker has made a checkpoint of it, of which there is no copy yet."""
    assert attempt.worker is not None
    attempt.worker.uncopied[attempt] = None
    books.copiers[attempt.worker] = None


def begin(books: Books) -> bool:
    """Begins what can be begun, and gives up what somebody waits for. Whether there was any."""
    changed = _give_way(books)
    while books.copiers:
        maker = books.copiers.popitem()[0]
        while maker.uncopied and _may_send(maker):
            changed = True
            of = next(iter(maker.uncopied))
            del maker.uncopied[of]
            _copy(books, maker, of)
    return changed


def arrived(books: Books, copy: Attempt, lease: Lease) -> None:
    """It lies in the slots of its receiver, which is not told of it."""
    books.count("copies_made")
    del books.ledger.copying[copy]
    copy.midway = False
    copy.move(State.DELIVERED, books.now, f"a copy, at {lease.table.owner}")
    copy.stage += 1
    copy.rest_of = copy.stage
    copy.incoming = lease
    lease.offer()
    if lease.table.owner is not None:
        books.stir(lease.table.owner)


def failed(books: Books, maker: Instance, receiver: Instance) -> None:
    """It could not be written: there is no hurry to try that again."""
    books.count("copies_failed")
    late = {key: until for key, until in maker.estranged.items() if until > books.now}
    maker.estranged = late | {receiver.key: books.now + ESTRANGED_S}


def superseded(books: Books, attempt: Attempt) -> None:
    """What a later stage has made is safe with its reader."""
    copy = attempt.request.copy
    if copy is not None and copy.stage < attempt.stage:
        ending.drop_copy(books, copy)


def _give_way(books: Books) -> bool:
    """While one is written, its slots can be had only from its maker: sooner or later."""
    late = [copy for copy in books.ledger.copying if _is_in_the_way(copy)]
    for copy in late:
        ending.drop_copy(books, copy)
    return bool(late)


def _is_in_the_way(copy: Attempt) -> bool:
    receiver = None if copy.outgoing is None else copy.outgoing.table.owner
    return receiver is not None and _is_waited_for(receiver)


def _is_waited_for(instance: Instance) -> bool:
    """Whether somebody who would have a place there lacks nothing but slots."""
    for role, post in instance.posts.items():
        heads = (head for queue in instance.model.waiting(role) for head in queue.heads())
        if role in RECEIVERS and any(post.has_place(head.priority) for head in heads):
            return True
    return False


def _may_send(maker: Instance) -> bool:
    sends = any(each.copy for post in maker.posts.values() for each in post.looking)
    return maker.live and not maker.draining and not sends


def _copy(books: Books, maker: Instance, of: Attempt) -> None:
    """Sends a copy in the place of the one that there is, if anybody has room for it."""
    request = of.request
    if of.state is not State.COMPUTING or not retry.is_checkpoint(request, maker, of.number):
        return
    ending.forget_copy(books, request)
    assert request.checkpoint is not None
    post = _receiver(books, maker, of, request.checkpoint[1].nbytes)
    if post is not None:
        _send(books, maker, of, post)


def _receiver(books: Books, maker: Instance, of: Attempt, nbytes: int) -> Post | None:
    """The next in the order of the role that has room, on another host if there is one: so the
    copies of each go to its neighbour."""

    def has_room(post: Post) -> bool:
        other, slots = post.instance, post.instance.slots
        wanted = other.name not in of.request.avoid
        wanted = wanted and maker.estranged.get(other.key, 0.0) <= books.now
        roomy = other.available and 2 * slots.need(nbytes) <= slots.empty
        return wanted and roomy and not _is_waited_for(other)

    others = of.model.rosters[of.role].after(maker.posts[of.role].order)
    found = [post for post in islice(others, TRIED) if has_room(post)]
    host = maker.info.host.boot_id
    far = (post for post in found if post.instance.info.host.boot_id != host)
    return next(far, found[0] if found else None)


def _send(books: Books, maker: Instance, of: Attempt, post: Post) -> None:
    books.count("copies_begun")
    request = of.request
    assert request.checkpoint is not None
    stage, kept = request.checkpoint
    copy = books.ledger.copy(request, books.now)
    copy.resume(stage, maker, kept.attempt, kept.nbytes, books.now, midway=True)
    copy.move(State.PUSHING, books.now, f"a copy, to {post.instance}")
    maker.posts[of.role].looking[copy] = None
    post.instance.copies[copy] = None
    room = dispatch.grant(books, copy, post, kept.nbytes)
    about = (maker.epoch, copy.id, copy.number, copy.role, copy.held)
    books.send(maker, Push(*about, room, checkpoint=True, copy=True))
    dispatch.watch(books, copy)
