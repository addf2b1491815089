"""Previews among the events of a job, in the form that streamed pictures have."""

import time

from orchestrator.http.media.reading import Reading
from orchestrator.http.ports import Jobs, Service
from orchestrator.http.request.schema import PartialImage
from orchestrator.http.streaming.picture_event import write_picture
from orchestrator.http.streaming.streamed import Writer
from orchestrator.jobs.model import JobEvent, Shown
from transfer.errors import MediaError
from transfer.made import size_of


class JobPreviews:
    """Writes the events that have something to show. A preview whose file is gone is left out: by
    then there is a later one, or the picture is done."""

    def __init__(self, service: Service, jobs: Jobs) -> None:
        self._service, self._jobs = service, jobs

    async def write(self, writer: Writer, event: JobEvent, shown: Shown) -> None:
        reading = Reading(self._jobs.preview(shown.media), shown.media.nbytes)
        try:
            await reading.prime()
        except MediaError:
            return
        else:
            await write_picture(writer, self._partial(event, shown), reading, event.number)
        finally:
            await reading.close()

    def _partial(self, event: JobEvent, shown: Shown) -> PartialImage:
        media, described = shown.media, event.job.described
        model = self._service.model(described.model)
        known = model.default_size if model else None
        size = size_of(media.made) or known
        return PartialImage(
            partial_image_index=shown.number,
            image_index=shown.index,
            created_at=int(time.time()),
            size=f"{size[0]}x{size[1]}" if size else "auto",
            quality=described.quality,
            output_format=described.output_format,
        )
