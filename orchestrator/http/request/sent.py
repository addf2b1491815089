"""What a client sent, before anything of it is understood; and its own name for it."""

import hashlib
from typing import Any

import msgspec
from starlette.requests import Request

from orchestrator.http.doors import caller_of
from orchestrator.http.errors import ApiError
from orchestrator.http.request.body import read_body
from orchestrator.http.request.enclosed import Enclosed, of_form
from orchestrator.http.request.forms import Texts, is_form, read_form
from orchestrator.jobs.model import Idempotency
from transfer.threads import in_thread

LARGE = 1 << 20  # bytes of a body that is decoded beside the event loop
MAX_KEY = 255  # characters


class Sent(msgspec.Struct, frozen=True):
    """`body`: as it came, of JSON. Of a form None; it has `texts` by name, and `files` in order.
    `idempotency`: the header `Idempotency-Key`, with a digest of all that was sent."""

    body: bytes | None
    texts: dict[str, Texts] = {}
    files: list[Enclosed] = []
    idempotency: Idempotency | None = None


async def receive(request: Request, limit: int, seconds: float) -> Sent:
    """At most `limit` bytes, which have to come within so many seconds. Raises `ApiError`."""
    key = _key_of(request)
    if is_form(request):
        form = await read_form(request, limit, seconds)
        try:
            sent = Sent(None, form.fields, await of_form(form))
        finally:
            await form.close()
    else:
        sent = Sent(await read_body(request, limit, seconds))
    if key is None:
        return sent
    head = f"{request.method} {request.url.path}\n".encode()
    digest = await in_thread(_digest, head, sent)
    return msgspec.structs.replace(sent, idempotency=Idempotency(key, digest))


def _key_of(request: Request) -> str | None:
    """Raises a 400 for one that is no key.

    Two callers who draw the same key mean two jobs: with API keys on, each has its own.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        message = f"`Idempotency-Key`: 1 to {MAX_KEY} printable ASCII characters"
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")
    if (caller := caller_of(request.scope)) is not None:
        key = hashlib.sha256(f"{caller} {key}".encode()).hexdigest()
    return key


def _digest(head: bytes, sent: Sent) -> bytes:
    """Equal for what means the same whatever the model: the order of the fields, their spaces and
    their nulls do not count; nor does that of files of different fields."""
    told = sent.texts if sent.body is None else _decoded(sent.body)
    if isinstance(told, dict):
        told = {name: value for name, value in told.items() if value is not None}
    all_of_it = hashlib.sha256(head)
    all_of_it.update(msgspec.json.encode(told, order="deterministic"))
    for file in sorted(sent.files, key=lambda each: each.field):
        inside = hashlib.sha256(file.data).hexdigest()
        all_of_it.update(f"\n{file.field} {inside}".encode())
    return all_of_it.digest()


def _decoded(body: bytes) -> Any:
    """What is no JSON is refused later, where it is understood. The fields of a large one are not
    looked into: they could be a thousand times what they are as bytes."""
    try:
        if len(body) > LARGE:
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            return {n: _name_of(raw) for n, raw in fields.items() if bytes(raw) != b"null"}
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _name_of(body)


def _name_of(data: bytes | msgspec.Raw) -> str:
    return hashlib.sha256(data).hexdigest()
