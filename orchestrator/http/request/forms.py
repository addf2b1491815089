"""Bodies that may be forms: multipart/form-data, as OpenAI's client sends what has files, or
JSON."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from orchestrator.http.errors import ApiError, ClientGone, bad_field
from orchestrator.http.request.body import too_large

MOST_FIELDS, MOST_FILES = 64, 20
MOST_FIELD_BYTES = 1 << 20


Texts = str | list[str]


class Form(msgspec.Struct):
    """`fields`: texts by name; of a name that came several times, or as `name[]`, the list of them.
    `files`: what was uploaded by name, in order; `name[]` is `name`. `await close()` gives the
    files' room back."""

    fields: dict[str, Texts]
    files: dict[str, list[UploadFile]]

    async def close(self) -> None:
        for files in self.files.values():
            for file in files:
                await file.close()


def is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "multipart/form-data"


async def read_form(request: Request, limit: int, seconds: float) -> Form:
    """The form; what is large of it lies on the disk. Raises 400 for one that is broken, 413 as
    soon as it is known to exceed `limit` bytes, and 408 if it has not come within `seconds`."""
    parser = MultiPartParser(
        request.headers,
        _bounded(request, limit),
        max_files=MOST_FILES,
        max_fields=MOST_FIELDS,
        max_part_size=MOST_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(seconds):
            parts = await parser.parse()
    except (MultiPartException, KeyError) as error:
        message = getattr(error, "message", f"a form without {error}")
        raise bad_field(None, f"the body is no form: {message}", "invalid_form") from None
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        message = f"the body has not come within {seconds:g} s"
        raise ApiError(408, message, code="body_timeout") from None
    form = Form({}, {})
    for full_name, part in parts.multi_items():
        name = full_name.removesuffix("[]")
        if not isinstance(part, str):
            form.files.setdefault(name, []).append(part)
        elif name in form.fields or name != full_name:
            form.fields[name] = [*_listed(form.fields.get(name, [])), part]
        else:
            form.fields[name] = part
    return form


def _listed(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    nbytes = 0
    async for chunk in request.stream():
        nbytes += len(chunk)
        if nbytes > limit:
            raise too_large(limit)
        yield chunk
