"""`stream: true`: the reply to a client that wants to watch its pictures being made.

Server-sent events as OpenAI's clients read them: by the `type` in their data, and a truthy `error`
there is raised. https://platform.openai.com/docs/api-reference/images-streaming
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.http.errors import ErrorReply
from orchestrator.http.faults import to_api_error
from orchestrator.http.gone import until_gone
from orchestrator.http.request.plan import Plan
from orchestrator.http.request.schema import ImageCompleted, PartialImage
from orchestrator.http.seconds import rounded
from orchestrator.http.streaming.event_stream import HEADERS, PING
from orchestrator.http.streaming.making import Broken, Made, Making, News, Preview
from orchestrator.http.streaming.picture_event import write_picture
from orchestrator.http.streaming.streamed import Writer
from transfer.errors import MediaError
from transfer.made import size_of
from transfer.messages import Media, ModelInfo

GRACE_S = 0.25  # an error that comes so soon still has its HTTP status


class Showing(Response):
    """Events of the pictures of one request: previews of each, then each completed one.

    Ends after the last picture, with an error, or when the client goes: then everything that is
    still being made is cancelled. A preview whose file is gone is left out.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        plan: Plan,
        making: Making,
        model: ModelInfo,
        first: News | None,
        ping_s: float,
        request_id: str,
    ) -> None:
        super().__init__(headers={**HEADERS, "x-triptych-seed": str(plan.seed)})
        del self.headers["content-length"]  # of the empty body that it was made with
        self._plan, self._making, self._model = plan, making, model
        self._first, self._ping_s, self._request_id = first, ping_s, request_id

    @classmethod
    async def begin(
        cls, request: Request, plan: Plan, making: Making, model: ModelInfo, ping_s: float
    ) -> "Showing":
        """Raises what goes wrong at once, while it can still be told by the status."""
        id = request.state.request_id
        making.start(plan, id)
        try:
            first = await until_gone(request.receive, making.news(GRACE_S))
            if isinstance(first, Broken):
                raise first.error
        except BaseException:
            await making.close()
            raise
        return cls(plan, making, model, first, ping_s, id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._send(Writer(send)))
        finally:
            await self._making.close()

    async def _send(self, writer: Writer) -> None:
        await writer.start(self.status_code, self.raw_headers)
        left, news = len(self._plan.inputs), self._first
        while left:
            match news:
                case None:
                    await writer.write(PING, flush=True)
                case Preview():
                    await self._preview(writer, news)
                case Made():
                    await self._made(writer, news)
                    left -= 1
                case Broken(error=error):
                    await self._broken(writer, error)
                    break
            news = await self._making.news(self._ping_s) if left else None
        await writer.write(b"", last=True)

    async def _preview(self, writer: Writer, preview: Preview) -> None:
        media = preview.media
        reading = self._making.files.read(media)
        try:
            await reading.prime()
        except MediaError:
            return  # its decoder is gone
        else:
            event = PartialImage(
                type=self._type("partial_image"),
                partial_image_index=preview.number,
                image_index=preview.index,
                **self._facts(media),
            )
            await write_picture(writer, event, reading)
        finally:
            await reading.close()
            await self._making.files.give_back(media)

    async def _made(self, writer: Writer, made: Made) -> None:
        for media in made.result.media:
            first = media is made.result.media[0]
            reading = made.reading if first else self._making.files.read(media)
            event = ImageCompleted(
                type=self._type("completed"),
                image_index=made.index,
                timings=rounded(made.result.timings),
                **self._facts(media),
            )
            try:
                await write_picture(writer, event, reading)
            finally:
                await reading.close()
            await self._making.files.give_back(media)

    async def _broken(self, writer: Writer, error: Exception) -> None:
        told = ErrorReply(to_api_error(error, self._request_id).body)
        data = b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
        await writer.write(data, flush=True)

    def _type(self, what: str) -> Any:
        return f"{'image_edit' if self._plan.edit else 'image_generation'}.{what}"

    def _facts(self, media: Media) -> dict[str, Any]:
        size = size_of(media.made) or self._model.default_size
        return {
            "created_at": int(time.time()),
            "size": f"{size[0]}x{size[1]}" if size else "auto",
            "quality": self._plan.quality,
            "output_format": self._plan.output_format,
        }
