"""What follows a failed attempt: another one, from the latest payload that still exists.

A sender keeps what it has delivered until it is told to let go, or needs the room. So when a
denoiser dies, its requests go on at another one from the encodings that their encoders keep.
"""

from orchestrator.core.attempts import Attempt
from orchestrator.core.books import Books
from orchestrator.core.commands import Progress
from orchestrator.core.instances import Instance
from orchestrator.core.requests import Kept, Request
from transfer.messages import ErrorInfo

FINAL = frozenset({"invalid_request", "unsupported", "payload_too_large", "deadline", "cancelled"})
"""What would only happen again."""
OWN_FAULT = frozenset({"rank_failed", "rank_died", "stalled", "payload", "internal"})
"""What speaks against the instance at which it happened."""
SPOILT = frozenset({"rank_failed", "payload", "internal"})
"""What may be the fault of the checkpoint that an attempt began with."""


def again(books: Books, failed: Attempt, error: ErrorInfo) -> bool:
    """Begins the next attempt, if there may be one."""
    request, config = failed.request, books.config
    if error.bystander and request.spared < config.max_spared:
        request.spared += failed.started
    elif error.kind in OWN_FAULT and error.instance is not None:
        _blame(books, failed, error.instance)
    if error.kind in FINAL or request.tries - request.spared >= config.max_attempts:
        return False
    if failed.restored and error.kind in SPOILT:
        forget_checkpoint(books, request)
    elif error.kind == "payload":
        _distrust_payload(books, failed)
    request.remember(error)
    books.count("attempts_failed")
    books.count(f"retried_{error.kind}")
    text = f"request {request.id}, attempt {failed.number} failed ({error.kind}): {error.message}"
    books.log("warning", f"{text}; it is tried again")
    _begin(books, request, backoff_s(books, request.tries))
    return True


def elsewhere(books: Books, moved: Attempt) -> None:
    """Begins the next attempt, although nothing was wrong with this one; it does not count."""
    request = moved.request
    request.spared += moved.started
    books.count("attempts_moved")
    books.log("info", f"request {request.id} leaves {moved.worker} after step {moved.step}")
    _begin(books, request, 0.0)


def _begin(books: Books, request: Request, pause_s: float) -> None:
    if not _begin_with_copy(books, request):
        attempt = books.ledger.again(request, books.now)
        _resume(books, attempt)
        if attempt.worker is None:
            request.model.queued += 1
        books.ledger.backoffs.put(books.now + pause_s, attempt.serial, attempt)
    books.commands.append(Progress(request.id, request.tries + 1, "queued", None, 0, 0))


def trust(books: Books, attempt: Attempt, instance: Instance) -> None:
    """The instance has done what it was asked for."""
    post = instance.posts[attempt.role]
    if post.failed:
        post.failed.clear()
        books.stir(instance)


def _blame(books: Books, failed: Attempt, name: str) -> None:
    """The request avoids the instance; when different ones do, all of them rather go elsewhere."""
    failed.request.avoid.add(name)
    instance = books.registry.by_name.get(name)
    post = instance.posts.get(failed.post_role) if instance is not None else None
    if post is not None and not post.suspect:
        post.failed.add(failed.request.order)
        books.stir(post.instance)


def _distrust_payload(books: Books, failed: Attempt) -> None:
    """It was not what its sender described. Once that may have happened on its way; twice, and it
    is the sender's copy that is wrong."""
    origin, request = failed.origin, failed.request
    if origin is not None and origin[0] == failed.stage - 1:
        request.avoid.add(origin[1])
        if origin[0] in request.kept:
            let_go(books, request, origin[0])


def backoff_s(books: Books, tries: int) -> float:
    """None after the first attempt, so that a death costs no more than its detection; then
    doubling."""
    config = books.config
    if tries < 2:
        return 0.0
    return min(config.max_backoff_s, config.backoff_s * 2.0 ** (tries - 2))


def with_history(request: Request, error: ErrorInfo) -> ErrorInfo:
    if not request.history:
        return error
    attempts = f"{request.tries} attempt{'s' if request.tries != 1 else ''}"
    text = f"{error.message} (after {attempts})"
    return error.but(message=text, history=list(request.history))


def keep(books: Books, attempt: Attempt, sender: Instance, nbytes: int) -> None:
    """The attempt's stage was delivered, and its payload stays with its sender."""
    request, stage = attempt.request, attempt.stage
    if attempt.midway:
        attempt.midway = False
        keep_checkpoint(books, attempt, sender, stage, nbytes)
        attempt.restored, attempt.rest_of = True, stage + 1
        return
    assert stage not in request.kept
    request.kept[stage] = Kept(sender, attempt.number, nbytes)


def let_go(books: Books, request: Request, stage: int) -> None:
    """Nobody will ask for that payload again."""
    kept = request.kept.pop(stage)
    if kept.instance.live:
        books.release(kept.instance, request.route[stage], request.id, kept.attempt)


def keep_checkpoint(
    books: Books, attempt: Attempt, maker: Instance, stage: int, nbytes: int
) -> None:
    """The maker keeps a checkpoint under the attempt's number, in the place of earlier ones."""
    request = attempt.request
    if not is_checkpoint(request, maker, attempt.number):
        forget_checkpoint(books, request)
    request.checkpoint = stage, Kept(maker, attempt.number, nbytes)
    attempt.restored = False
    books.count("checkpoints")


def is_checkpoint(request: Request, maker: Instance, attempt: int) -> bool:
    """Whether what that instance keeps under that number is the request's checkpoint."""
    if request.checkpoint is None:
        return False
    kept = request.checkpoint[1]
    return kept.instance is maker and kept.attempt == attempt


def forget_checkpoint(books: Books, request: Request) -> None:
    """Nobody will go on from it."""
    if request.checkpoint is None:
        return
    (_, kept), request.checkpoint = request.checkpoint, None
    if kept.instance.live:
        books.release(kept.instance, "checkpoint", request.id, kept.attempt)


def superseded(books: Books, attempt: Attempt) -> None:
    """The stage's payload is safe with its reader, so what the stages before the last one made is
    not needed any more."""
    request = attempt.request
    for stage in [stage for stage in request.kept if stage < attempt.stage - 1]:
        let_go(books, request, stage)
    if request.checkpoint is not None and request.checkpoint[0] < attempt.stage - 1:
        forget_checkpoint(books, request)


def _resume(books: Books, attempt: Attempt) -> None:
    """From the latest payload that its maker still keeps, as far as we know: a checkpoint is later
    than what the stage was given."""
    request = attempt.request
    midway = -1 if request.checkpoint is None else request.checkpoint[0]
    for stage in sorted({*request.kept, midway} - {-1}, reverse=True):
        if stage == midway and request.checkpoint is not None:
            kept, request.checkpoint = request.checkpoint[1], None
            if _resume_at(books, attempt, stage, kept, midway=True):
                return
        if stage in request.kept and _resume_at(books, attempt, stage, request.kept.pop(stage)):
            return


def _resume_at(
    books: Books, attempt: Attempt, stage: int, kept: Kept, midway: bool = False
) -> bool:
    if not _is_there(kept):
        return False
    books.count("attempts_restored" if midway else "attempts_resumed")
    attempt.resume(stage, kept.instance, kept.attempt, kept.nbytes, books.now, midway)
    kept.instance.outbox[attempt] = None
    return True


def _is_there(kept: Kept) -> bool:
    """Its maker can still be told to push it."""
    return kept.instance.live and not kept.instance.drain_sent


def _begin_with_copy(books: Books, request: Request) -> bool:
    """The copy of the checkpoint is the next attempt, if there is nothing later or nearer: it lies
    where it is needed, so it waits for nothing but a place there."""
    copy = request.copy
    receiver = copy.incoming.table.owner if copy is not None and copy.incoming is not None else None
    if copy is None or receiver is None or not receiver.available:
        return False
    if receiver.name in request.avoid or _has_better(request, copy):
        return False
    assert copy.incoming is not None
    books.count("attempts_from_copies")
    forget_checkpoint(books, request)
    for stage in [stage for stage in request.kept if stage >= copy.stage]:
        let_go(books, request, stage)
    request.attempt, request.copy, copy.copy = copy, None, False
    request.note(books.now, f"#{copy.number} goes on from the copy at {receiver}")
    copy.since = books.now
    copy.incoming.claim()
    post = receiver.posts[copy.role]
    post.forget(copy)
    post.parked.enter(copy, copy.model.forecast.seconds(copy, post))
    books.stir(receiver)
    return True


def _has_better(request: Request, copy: Attempt) -> bool:
    """Its checkpoint, or a payload of a later stage, is still there."""
    better = [kept for stage, kept in request.kept.items() if stage >= copy.stage]
    if request.checkpoint is not None:
        better.append(request.checkpoint[1])
    return any(map(_is_there, better))
