"""A front door without a cluster behind it: doubles of the service, of the jobs (fake_jobs.py) and
of the media channel."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx
import msgspec
from fastapi import FastAPI

from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.view import (
    ClusterView,
    InstanceView,
    ModelView,
    RankView,
    RequestsView,
    SlotsView,
)
from orchestrator.http import HttpOptions, create_app
from orchestrator.http.server import bind, serving
from orchestrator.service import Completed, NotReady, Previews, Timings
from tests.support.fake_jobs import FakeJobs, picture
from transfer.actions import Action, Adapter
from transfer.errors import MediaError
from transfer.made import ImageMade
from transfer.messages import CacheReport, Inputs, Media, ModelInfo, Parameter, Role

__all__ = ["MODEL", "TIMINGS", "Door", "FakeMedia", "FakeService", "picture", "soon"]

PARAMETERS = [
    Parameter(name="prompt", type="str", required=False),
    Parameter(name="negative_prompt", type="str", required=False),
    Parameter(name="height", type="int", required=False),
    Parameter(name="width", type="int", required=False),
    Parameter(name="num_inference_steps", type="int", required=False, default=8),
    Parameter(name="guidance_scale", type="float", required=False, default=4.0),
]
MODEL = ModelInfo(
    name="demo",
    pipeline="ZImagePipeline",
    fingerprint="f",
    modality="image",
    parameters=PARAMETERS,
    default_size=(128, 128),
    size_multiple=16,
)
TIMINGS = Timings(
    queue_s=0.001, encoder_s=0.01, denoiser_s=0.2, decoder_s=0.03, transfer_s=0.002, total_s=0.25
)


class FakeMedia:
    """Finished files by id: bytes, or a function that makes chunks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Callable[[], AsyncGenerator[bytes, None]]] = {}
        self.released: list[str] = []
        self.chunks_read = 0
        self.open = 0
        self.closed = False

    def add(self, id: str, content: bytes, **fields: object) -> Media:
        self.files[id] = content
        media = Media(id=id, made=ImageMade(), mime="image/png", nbytes=len(content))
        return Media(**{f: getattr(media, f) for f in media.__struct_fields__} | fields)

    async def chunks(self, media: Media, large: bool = False) -> AsyncGenerator[bytes, None]:
        content = self.files.get(media.id)
        if content is None:
            raise MediaError(f"{media.id} is gone")
        pieces = _pieces(content) if isinstance(content, bytes) else content()
        self.open += 1
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    self.chunks_read += 1
                    yield piece
        finally:
            self.open -= 1

    async def release(self, media: Media) -> None:
        self.released.append(media.id)

    async def close(self) -> None:
        self.closed = True


async def _pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    size = max(300, len(content) // 8)
    for start in range(0, len(content), size):
        yield content[start : start + size]


class FakeUploads:
    """`kept`: what was uploaded, by its hash."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        hash = hashlib.sha256(data).hexdigest()
        self.kept[hash] = data
        return hash


class FakeOperator:
    """`told`: what the instances answer; an exception is raised."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Action, float]] = []
        self.models: list[str | None] = []
        self.told: dict[str, InstanceAnswer] | Exception = {}
        self.undone: bool | None = None

    async def ask(
        self, target: str, action: Action, timeout_s: float, model: str | None = None
    ) -> Answers:
        self.asked.append((target, action, timeout_s))
        self.models.append(model)
        if isinstance(self.told, Exception):
            raise self.told
        return Answers(1, self.told, self.undone)


class FakeService:
    """`behave(inputs, request_id)` is what a request does; by default it makes one picture.

    `served` are the models, `usual` the name of the one that requests mean which name none; while
    it is None, that is the only one. `lacking`: roles of every model; `lacks`: of one, by name.
    `meant`: the models of the requests that were `asked`."""

    def __init__(self, media: FakeMedia, model: ModelInfo | None = MODEL) -> None:
        self.media = media
        self.served = [model] if model else []
        self.usual: str | None = None
        self.meant: list[str] = []
        self.lacks: dict[str, list[Role]] = {}
        self.asked: list[tuple[str, Inputs]] = []
        self.cancelled: list[str] = []
        self.previews: dict[str, Previews] = {}
        self.behave: Callable[[Inputs, str], Awaitable[Completed]] = self.make
        self.left: list[tuple[str, str]] = []
        self.operator = FakeOperator()
        self.loaded: dict[str, Adapter] = {}
        self.counts = {"protocol_errors_magic": 2, "requests_refused": 4}
        self.lacking: list[Role] = [] if model else ["encoder", "denoiser", "decoder"]

    async def make(self, inputs: Inputs, request_id: str) -> Completed:
        media = self.media.add(f"m-{inputs.seed}", picture(inputs.seed), made=ImageMade(128, 96))
        model = self.meant[-1] if self.meant else ""
        return Completed(media=[media], timings=TIMINGS, attempts=1, model=model)

    async def generate(
        self,
        inputs: Inputs,
        *,
        request_id: str,
        model: str = "",
        previews: Previews | None = None,
    ) -> Completed:
        if previews is not None:
            self.previews[request_id] = previews
        if missing := self.missing(model):
            raise NotReady(missing, (), model)
        self.asked.append((request_id, inputs))
        self.meant.append(model)
        try:
            return await self.behave(inputs, request_id)
        except asyncio.CancelledError:
            self.cancelled.append(request_id)
            raise

    def show(self, request_id: str, content: bytes, **fields: object) -> None:
        """A preview of a request that asked for some."""
        id = f"p-{request_id}-{len(self.media.files)}"
        media = self.media.add(id, content, **{"made": ImageMade(128, 96), **fields})
        self.previews[request_id].show([media])

    def model(self, name: str) -> ModelInfo | None:
        return next((each for each in self.served if each.name == name), None)

    def models(self) -> list[ModelInfo]:
        return self.served

    def usual_model(self) -> ModelInfo | None:
        if self.usual is not None:
            return self.model(self.usual)
        return self.served[0] if len(self.served) == 1 else None

    def adapters(self, model: str) -> dict[str, Adapter]:
        return self.loaded

    def asleep(self, model: str | None = None) -> list[Role]:
        return []

    def missing(self, model: str | None = None) -> list[Role]:
        return self.lacks.get(model or "", self.lacking)

    def routes(self) -> dict[str, list[Role]]:
        names = [model.name for model in self.served] or [""]
        return {name: self.missing(name) for name in names}

    def cluster(self) -> ClusterView:
        instance = InstanceView(
            name="d0",
            endpoint="tcp://127.0.0.1:1",
            epoch=1,
            state="ready",
            order=0,
            capacity=4,
            in_flight=1,
            slots=SlotsView(total=8, leased=2, quarantined=1),
            ranks=[RankView(rank=0, pid=1, state="ready")],
            host="here",
            model="demo",
        )
        requests = RequestsView(queued=3, running=1, completed=5, failed=2, cancelled=1)
        cache = CacheReport(hits=7, misses=2, entries=2, nbytes=4096, limit=8192)
        encoder = msgspec.structs.replace(instance, encodings=cache)
        roles = {"encoder": [encoder], "denoiser": [instance], "decoder": [instance]}
        models = {"demo": ModelView(ready=True, missing=[], requests=requests)}
        return ClusterView(roles=roles, requests=requests, models=models)

    def drain(self, name: str) -> None:
        self._leave("drain", name)

    def remove(self, name: str) -> None:
        self._leave("remove", name)

    def counters(self) -> dict[str, int]:
        return self.counts

    def _leave(self, how: str, name: str) -> None:
        if name != "d0":
            raise KeyError(name)
        self.left.append((how, name))


class Door:
    """An application with its doubles, and two ways in: in memory, and over a real socket."""

    def __init__(
        self,
        options: HttpOptions | None = None,
        model: ModelInfo | None = MODEL,
        jobs: FakeJobs | None = None,
    ) -> None:
        self.media = FakeMedia()
        self.service = FakeService(self.media, model)
        self.jobs = jobs or FakeJobs()
        self.healthy = True
        self.uploads = FakeUploads()
        self.app: FastAPI = create_app(
            self.service,
            self.media,
            self.jobs,
            options,
            healthy=lambda: self.healthy,
            uploads=self.uploads,
        )

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """In memory; for everything that needs no connection of its own."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://door") as client,
        ):
            yield client

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Over a real socket; gives the URL."""
        leaving = self.app.state.leaving
        async with serving(self.app, bind("127.0.0.1:0"), grace_s=2, leaving=leaving) as url:
            yield url


async def soon(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Lets the event loop turn until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
