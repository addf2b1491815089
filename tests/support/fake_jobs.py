"""A double of the durable jobs, in memory: tests move its jobs along by hand."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from orchestrator.jobs.model import (
    Idempotency,
    Job,
    JobEvent,
    JobProgress,
    JobSpec,
    JobStatus,
    KeyConflict,
    Shown,
    StoredFile,
)
from orchestrator.service import Completed, Timings
from transfer.errors import MediaError
from transfer.made import ImageMade, VideoMade
from transfer.messages import ErrorInfo, Media

TIMINGS = Timings(queue_s=0.5, encoder_s=0.01, transfer_s=0.0000004, total_s=0.75)
Name = Literal["queued", "progress", "preview", "completed", "failed", "cancelled"]


def picture(seed: int, nbytes: int = 1000) -> bytes:
    """Bytes that no other seed has."""
    return hashlib.shake_128(str(seed).encode()).digest(nbytes)


class FakeJobs:
    """`at_once`: a job is completed when it is accepted. `folder`: files lie there, not in memory.
    `refusal` is raised by `submit` instead of accepting."""

    def __init__(self, at_once: bool = True, folder: Path | None = None) -> None:
        self.at_once, self.folder = at_once, folder
        self.refusal: Exception | None = None
        self.specs: dict[str, JobSpec] = {}
        self.jobs: dict[str, Job] = {}  # the oldest first
        self.keys: dict[str, tuple[bytes, str]] = {}
        self.files: dict[str, bytes] = {}
        self.forgotten: list[tuple[str, str]] = []
        self.readers = 0
        self.observers: list[Callable[[Completed], None]] = []
        self._events: dict[str, list[JobEvent]] = {}
        self._moved = asyncio.Condition()

    async def submit(self, spec: JobSpec, idempotency: Idempotency | None = None) -> Job:
        if self.refusal is not None:
            raise self.refusal
        if idempotency is not None and (known := await self.recall(idempotency)):
            return known
        id = f"job_{len(self.jobs)}"
        self.specs[id] = spec
        job = Job(
            id=id,
            status="queued",
            created_at=1000.75 + len(self.jobs),
            finished_at=None,
            position=0,
            progress=JobProgress(),
            attempts=0,
            timings=None,
            error=None,
            files=[],
            described=spec.described,
        )
        await self._put(job, "queued")
        if idempotency is not None:
            self.keys[idempotency.key] = (idempotency.digest, id)
        if self.at_once:
            await self.complete(id)
        return self.jobs[id]

    async def recall(self, idempotency: Idempotency) -> Job | None:
        digest, id = self.keys.get(idempotency.key, (b"", ""))
        if not id:
            return None
        if digest != idempotency.digest:
            raise KeyConflict(idempotency.key, id)
        return self.jobs[id]

    async def find(self, id: str) -> Job | None:
        return self.jobs.get(id)

    async def page(
        self,
        limit: int,
        after: str | None,
        status: JobStatus | None,
        *,
        videos: bool = False,
        ascending: bool = False,
    ) -> tuple[list[Job], bool]:
        jobs = list(self.jobs.values()) if ascending else list(reversed(self.jobs.values()))
        if after is not None:
            if after not in self.jobs:
                raise KeyError(after)
            jobs = jobs[jobs.index(self.jobs[after]) + 1 :]
        jobs = [job for job in jobs if status in (None, job.status)]
        jobs = [job for job in jobs if not videos or job.described.video is not None]
        return jobs[:limit], len(jobs) > limit

    async def cancel(self, id: str) -> Job:
        if not self.jobs[id].over:
            error = ErrorInfo(kind="cancelled", message="nobody wants it")
            over = {"status": "cancelled", "position": None, "finished_at": 2000.0}
            await self._change(id, "cancelled", **over, error=error)
        return self.jobs[id]

    async def forget(self, id: str) -> None:
        await self.cancel(id)
        self.forgotten.append((id, self.jobs.pop(id).status))

    async def events(self, id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        self.readers += 1
        try:
            while True:
                for event in await self._news(id, after):
                    yield event
                    after = event.number
                if event.job.over:
                    return
        finally:
            self.readers -= 1

    async def wait(self, id: str) -> Job:
        async with self._moved:
            await self._moved.wait_for(lambda: self.jobs[id].over)
        return self.jobs[id]

    def observe(self, finished: Callable[[Completed], None]) -> None:
        self.observers.append(finished)

    async def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        content = self.files.get(file.key)
        if content is None:
            raise MediaError(f"{file.key} is gone")
        for start in range(0, len(content), 300):
            yield content[start : start + 300]

    async def preview(self, media: Media) -> AsyncGenerator[bytes, None]:
        content = self.files.get(media.id)
        if content is None:
            raise MediaError(f"{media.id} is gone")
        for start in range(0, len(content), 300):
            yield content[start : start + 300]

    def local_path(self, file: StoredFile) -> Path | None:
        return self.folder / file.key if self.folder else None

    async def step(self, id: str, stage: str, step: int = 0, steps: int = 0) -> None:
        progress = JobProgress(stage, step, steps)
        await self._change(
            id, "progress", status="running", position=None, attempts=1, progress=progress
        )

    async def show(self, id: str, number: int, content: bytes, index: int = 0) -> None:
        """A preview; only the latest of each picture stays."""
        media = Media(f"{id}-{index}~{number}", ImageMade(128, 96), "image/png", len(content))
        self.files.pop(f"{id}-{index}~{number - 1}", None)
        self.files[media.id] = content
        await self._put(self.jobs[id], "preview", Shown(index, number, media))

    async def complete(self, id: str, content: bytes | None = None) -> None:
        """`content`: of a video; without it each picture is what its seed says."""
        spec = self.specs[id]
        files = [self._store(f"{id}-{i}", picture(each.seed)) for i, each in enumerate(spec.inputs)]
        if content is not None:
            film = VideoMade(64, 48, 30, 16.0, "example")
            files = [replace(self._store(f"{id}-0", content), made=film, mime="video/mp4")]
        over = {"status": "completed", "position": None, "finished_at": 2000.9, "attempts": 1}
        for finished in self.observers * len(files):
            finished(Completed([], TIMINGS, 1, spec.described.model))
        await self._change(id, "completed", **over, files=files, timings=TIMINGS)

    async def fail(self, id: str, error: ErrorInfo) -> None:
        over = {"status": "failed", "position": None, "finished_at": 2000.0}
        await self._change(id, "failed", **over, error=error)

    def _store(self, key: str, content: bytes) -> StoredFile:
        if self.folder is not None:
            (self.folder / key).write_bytes(content)
        else:
            self.files[key] = content
        return StoredFile(key, ImageMade(128, 96), "image/png", len(content))

    async def _news(self, id: str, after: int) -> list[JobEvent]:
        async with self._moved:
            return await self._moved.wait_for(lambda: self._newer(id, after))

    def _newer(self, id: str, after: int) -> list[JobEvent]:
        """Of a job that is over, its last event is always kept."""
        newer = [event for event in self._events[id] if event.number > after]
        return newer or (self._events[id][-1:] if self.jobs[id].over else [])

    async def _change(self, id: str, name: Name, **fields: object) -> None:
        await self._put(msgspec.structs.replace(self.jobs[id], **fields), name)

    async def _put(self, job: Job, name: Name, shown: Shown | None = None) -> None:
        async with self._moved:
            self.jobs[job.id] = job
            events = self._events.setdefault(job.id, [])
            events.append(JobEvent(len(events) + 1, name, job, shown))
            self._moved.notify_all()
