"""Previews: pictures of requests that are still being denoised.

A preview is a request of its own that nobody waits for, from the denoiser that has the latents to a
decoder that has nothing else to do. It is one attempt with leases, epochs and fences like any
other, but it is begun only when its decoder is idle, never tried again, and dropped when what it
shows is over. So a preview that is lost costs nothing but itself.

Where a pipeline runs whole, its instance decodes the preview, too, between two steps. That holds up
who shares the instance, so it is begun only if nobody waits for one.
"""

from orchestrator.core import dispatch
from orchestrator.core.attempts import Attempt, State
from orchestrator.core.books import Books
from orchestrator.core.instances import Post
from orchestrator.core.models import Model
from transfer.messages import Grant, Role, Work
from transfer.previews import passed

WHOLE: Role = "monolithic"
DECODERS_TRIED = 8  # a preview is a convenience: the search for a decoder is short


def consider(books: Books, attempt: Attempt) -> None:
    """The attempt has moved: a preview of it may be due, one at a time. Of those that were not
    begun before the next one was due, only that one is made."""
    request = attempt.request
    if not request.previews or request.preview is not None:
        return
    if attempt.role != WHOLE and (attempt.last or attempt.next_role != "decoder"):
        return
    if passed(attempt.step, attempt.steps, request.previews) > request.previewed:
        attempt.model.due.put(books.now, attempt.serial, attempt)


def begin_one(books: Books) -> bool:
    """Begins the preview of a model that has been due for longest, if a decoder has nothing else to
    do. Whether there was one."""
    return any(_begin_one_of(books, model) for model in books.models)


def _begin_one_of(books: Books, model: Model) -> bool:
    attempt = model.due.head()
    if attempt is None:
        return False
    if attempt.role == WHOLE:
        model.due.discard(attempt.serial)  # its next step asks again
        if not any(model.waiting(WHOLE)):
            _begin(books, attempt)
        return True
    post = _idle_decoder(model)
    if post is None:
        return False
    model.due.discard(attempt.serial)
    _begin(books, attempt, post)
    return True


def _idle_decoder(model: Model) -> Post | None:
    """One that has nothing to do, and as much room for others as for the preview. Whoever waits
    goes first."""
    if any(model.waiting("decoder")):
        return None
    usual = model.expect("denoiser")
    tried = 0

    def idle(post: Post) -> bool:
        nonlocal tried
        tried += 1
        free = 2 * post.instance.slots.need(usual) <= post.instance.slots.free
        promised = any(each.request.preview_of is not None for each in post.promised)
        return tried > DECODERS_TRIED or (free and not post.imminent and not promised)

    roster = model.rosters["decoder"]
    post = roster.find(roster.rooms("low").now, idle)
    return None if tried > DECODERS_TRIED else post


def _begin(books: Books, of: Attempt, post: Post | None = None) -> None:
    """Has the denoiser make a payload of its latents, with room for it at an idle decoder; or, with
    none, has the whole pipeline's instance make the picture."""
    books.count("previews_begun")
    worker, request = of.worker, of.request
    assert worker is not None
    request.previewed = passed(of.step, of.steps, request.previews)
    preview = books.ledger.look(of, books.now)
    preview.worker, preview.started = worker, True
    worker.posts[of.role].looking[preview] = None
    preview.move(State.COMPUTING, books.now, str(worker))
    work = Work(
        epoch=worker.epoch,
        request=preview.id,
        attempt=preview.number,
        role=of.role,
        last=post is None,
        inputs=preview.request.inputs,
        seconds=max(0.0, request.deadline - books.now),
        grant=None if post is None else _promise(books, preview, post),
        preview_of=(of.id, of.number),
    )
    books.send(worker, work)
    dispatch.watch(books, preview)


def _promise(books: Books, preview: Attempt, post: Post) -> Grant:
    post.promised[preview] = None
    slots = post.instance.slots
    nbytes = preview.model.expect(preview.role) or slots.free // 2 * slots.slot_bytes
    return dispatch.grant(books, preview, post, nbytes)
