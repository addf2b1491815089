"""A server-sent event with a picture in it, as OpenAI's clients read it."""

import msgspec

from orchestrator.http.media.reading import Reading
from orchestrator.http.request.body import Base64
from orchestrator.http.request.schema import ImageCompleted, PartialImage
from orchestrator.http.streaming.streamed import Writer
from orchestrator.http.streaming.turns import give_way


async def write_picture(
    writer: Writer,
    event: PartialImage | ImageCompleted,
    reading: Reading,
    number: int | None = None,
) -> None:
    """One event, whose picture passes through in pieces; the field for it comes last. `number`: the
    event's id, where a reader may come back with it."""
    head = msgspec.json.encode(event).removesuffix(b'""}')
    id = "" if number is None else f"id: {number}\n"
    await writer.write(f"{id}event: {event.type}\ndata: ".encode() + head + b'"')
    base64 = Base64()
    while chunk := await reading.next():
        await writer.write(base64.feed(chunk))
        await give_way()
    await writer.write(base64.finish() + b'"}\n\n', flush=True)
