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


def again(books: Books, failed: Attempt, error: ErrorInfo) -> bool:
    """Begins the next attempt, if there may be one."""
    request, config = failed.request, books.config
    if error.bystander and request.spared < config.max_spared:
        request.spared += failed.started
    elif error.kind in OWN_FAULT and error.instance is not None:
        _blame(books, failed, error.instance)
    if error.kind in FINAL or request.tries - request.spared >= config.max_attempts:
        return False
    if error.kind == "payload":
        _distrust_payload(books, failed)
    request.remember(error)
    books.count("attempts_failed")
    books.count(f"retried_{error.kind}")
    text = f"request {request.id}, attempt {failed.number} failed ({error.kind}): {error.message}"
    books.log("warning", f"{text}; it is tried again")
    attempt = books.ledger.again(request, books.now)
    _resume(books, attempt)
    if attempt.worker is None:
        books.ledger.queued += 1
    due = books.now + backoff_s(books, request.tries)
    books.ledger.backoffs.put(due, attempt.serial, attempt)
    books.commands.append(Progress(request.id, request.tries + 1, "queued", None, 0, 0))
    return True


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
    post = instance.posts.get(failed.role) if instance is not None else None
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
    assert stage not in request.kept
    request.kept[stage] = Kept(sender, attempt.number, nbytes)


def let_go(books: Books, request: Request, stage: int) -> None:
    """Nobody will ask for that payload again."""
    kept = request.kept.pop(stage)
    if kept.instance.live:
        books.release(kept.instance, request.route[stage], request.id, kept.attempt)


def superseded(books: Books, attempt: Attempt) -> None:
    """The stage's payload is safe with its reader, so what the stages before the last one made is
    not needed any more."""
    request = attempt.request
    for stage in [stage for stage in request.kept if stage < attempt.stage - 1]:
        let_go(books, request, stage)


def _resume(books: Books, attempt: Attempt) -> None:
    """From the latest stage whose payload its maker still keeps, as far as we know."""
    request = attempt.request
    for stage in sorted(request.kept, reverse=True):
        kept = request.kept.pop(stage)
        if kept.instance.live and not kept.instance.drain_sent:
            books.count("attempts_resumed")
            attempt.resume(stage, kept.instance, kept.attempt, kept.nbytes, books.now)
            kept.instance.outbox[attempt] = None
            return
