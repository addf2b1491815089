"""What clients send: a body or a form, with the media in it, and arguments of the pipeline that no
field of ours is for."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request

from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Service
from orchestrator.http.request import enclosed, structured
from orchestrator.http.request.choice import chosen
from orchestrator.http.request.decoding import Field, decode_open, from_fields, names_of, unknown
from orchestrator.http.request.enclosed import Enclosed, Keeper
from orchestrator.http.request.forms import Texts
from orchestrator.http.request.parameters import from_texts
from orchestrator.http.request.schema import EditRequest, ImageRequest, Parameter, VideoRequest
from orchestrator.http.request.sent import LARGE, Sent, receive
from transfer.messages import Upload
from transfer.threads import in_thread

AT_ONCE = 2  # requests whose media are decoded; a film may take seconds

T = TypeVar("T", bound=ImageRequest)
Sorted = tuple[dict[str, Parameter], list[Enclosed]]


class Intake:
    """`receive` a request, `read` it, `keep` its media: what the doors of pictures, videos, sounds
    and jobs have in common."""

    def __init__(self, service: Service, keeper: Keeper, options: HttpOptions) -> None:
        self._service, self._keeper, self._options = service, keeper, options
        self._decoding = asyncio.Semaphore(AT_ONCE)

    async def receive(self, request: Request, limit: int | None = None) -> Sent:
        """At most `limit` bytes. Raises `ApiError`."""
        options = self._options
        limit = options.max_upload_bytes if limit is None else limit
        return await receive(request, limit, options.body_s)

    async def read(self, sent: Sent, kind: type[T]) -> tuple[T, list[Enclosed]]:
        """The media are no part of the request any more. Raises `ApiError`: 400 for a field that is
        wrong; for one that only a model could know, what `chosen` does."""
        if sent.body is None:
            return self._parse_form(sent, kind)
        if len(sent.body) > LARGE:
            return await in_thread(self._parse, sent.body, kind)
        return self._parse(sent.body, kind)

    async def keep(self, asked: ImageRequest, media: list[Enclosed]) -> list[Upload]:
        """What roles can read. Raises `ApiError`."""
        if not media:
            return []
        found = enclosed.named(media, chosen(self._service, asked.model))
        async with self._decoding:
            return await enclosed.kept(found, self._keeper, self._options)

    def _parse(self, body: bytes, kind: type[T]) -> tuple[T, list[Enclosed]]:
        asked, others = decode_open(body, kind)
        media = enclosed.of_references(asked)
        parameters, more = self._sorted(others, asked.model) if others else ({}, [])
        return _with(_bare(asked), parameters), media + more

    def _parse_form(self, sent: Sent, kind: type[T]) -> tuple[T, list[Enclosed]]:
        names = names_of(kind)
        fields = {name: text for name, text in sent.texts.items() if name in names}
        others = {name: text for name, text in sent.texts.items() if name not in names}
        asked = from_fields(fields, kind)
        parameters, more = self._understood(others, asked.model) if others else ({}, [])
        return _with(asked, parameters), more + sent.files

    def _understood(self, texts: Mapping[str, Texts], name: str | None) -> Sorted:
        """Texts of a form, as what the model takes under these names."""
        model = chosen(self._service, name)
        known = {each.name: each for each in model.parameters}
        objects = {each.name for each in model.structures}
        found: dict[str, Field] = {}
        for field, text in texts.items():
            parameter = known.get(field) or structured.parameter_at(field, model)
            if parameter is not None:
                found[field] = from_texts(parameter, text)
            elif field in objects:
                found[field] = structured.understood(field, text)
            else:
                empty = text == "null" and structured.is_empty_cell(field, model)
                found[field] = None if empty else text
        return self._sorted(found, name)

    def _sorted(self, others: Mapping[str, Field], model: str | None) -> Sorted:
        """Arguments with plain values, to be checked when the request is planned; and media."""
        parameters: dict[str, Parameter] = {}
        media: list[Enclosed] = []
        if not others:
            return parameters, media
        taking = chosen(self._service, model)
        for name, value in structured.apart(others, taking):
            if structured.kinds_at(name, taking) and value is not None:
                media += enclosed.of_field(name, value)
                continue
            try:
                parameters[name] = msgspec.convert(value, Parameter)
            except msgspec.ValidationError:
                raise unknown(name) from None
        return parameters, media


def _with(asked: T, parameters: dict[str, Parameter]) -> T:
    if not parameters:
        return asked
    return msgspec.structs.replace(asked, parameters={**(asked.parameters or {}), **parameters})


def _bare(asked: T) -> T:
    """Without what is kept apart, so that a retry with the same media is the same request."""
    if isinstance(asked, EditRequest):
        return msgspec.structs.replace(asked, images=None, mask=None)
    if isinstance(asked, VideoRequest):
        return msgspec.structs.replace(asked, input_reference=None)
    return asked
