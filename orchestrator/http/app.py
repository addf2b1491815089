"""The front door as one ASGI application: its parts, what surrounds them, beginning and end."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from orchestrator.api_keys import ApiKeys, Owner
from orchestrator.http.doors import Doors
from orchestrator.http.endpoints.edits import Edits
from orchestrator.http.endpoints.images import Images
from orchestrator.http.endpoints.jobs import JobDesk
from orchestrator.http.endpoints.keyed import KeyedImages
from orchestrator.http.endpoints.links import Links
from orchestrator.http.endpoints.pages import Pages
from orchestrator.http.endpoints.rpc import Rpc
from orchestrator.http.endpoints.videos import Videos
from orchestrator.http.envelope import Envelope
from orchestrator.http.errors import plain
from orchestrator.http.media.shelf import Shelf
from orchestrator.http.media.store import Store
from orchestrator.http.meter import Meter, Rate
from orchestrator.http.openapi import install
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Jobs, MediaSource, Service
from orchestrator.http.request.enclosed import Keeper, NoRoom
from orchestrator.http.request.intake import Intake
from orchestrator.http.request.submission import Submission
from orchestrator.http.routes import add_images, add_jobs, add_pages, add_rpc, add_videos
from orchestrator.metrics import Metrics

log = logging.getLogger(__name__)


def create_app(
    service: Service,
    media: MediaSource,
    jobs: Jobs,
    options: HttpOptions | None = None,
    *,
    healthy: Callable[[], bool] = lambda: True,
    uploads: Keeper | None = None,
) -> FastAPI:
    """The front door of `service` and `jobs`.

    The application owns `media`: both end with its lifespan, which also sweeps expired files and
    removes the private ones. `healthy` is what GET /health tells; it must not wait. `uploads` keeps
    what clients upload; without it nothing is taken. Setting `app.state.leaving`, an
    `asyncio.Event`, ends streams of events that would go on for long.
    ValueError: the file of keys cannot be read, or the rate limit is none.
    """
    options = options or HttpOptions()
    keys = _keys(options)
    meter = Meter(Rate.parse(options.rate_limit)) if options.rate_limit is not None else None
    shelf = Shelf(Store(options.media_store), options.media_ttl_s, options.media_bytes)
    metrics = Metrics(service)
    jobs.observe(metrics.generated)
    app = FastAPI(
        title="Triptych",
        version=version("triptych"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda app: _lifespan(shelf, media, keys),
    )
    app.state.leaving = asyncio.Event()
    submission = Submission(service, jobs, options)
    keyed = KeyedImages(jobs, submission, options)
    intake = Intake(service, uploads or _Nowhere(), options)
    images = Images(service, intake, keyed, media, shelf, metrics, options)
    add_images(app, images, Edits(service, images, intake), Links(shelf))
    add_jobs(app, JobDesk(service, jobs, submission, intake, options, app.state.leaving))
    add_videos(app, Videos(jobs, submission, intake, options))
    add_pages(app, Pages(service, metrics, healthy, created=int(time.time())))
    add_rpc(app, Rpc(service.operator, options))
    install(app)
    app.add_exception_handler(HTTPException, _web_error)
    app.add_exception_handler(RequestValidationError, _web_error)
    app.add_middleware(Doors, keys=keys, meter=meter)
    app.add_middleware(
        Envelope,
        report=_reporter(metrics),
        stall_s=options.stall_s,
        leaving=app.state.leaving,
    )
    return app


class _Nowhere:
    def keep(self, data: bytes) -> str:
        raise NoRoom("this server keeps no uploads")


def _keys(options: HttpOptions) -> ApiKeys | None:
    if options.api_keys is None:
        return None
    supervisor = options.supervisor_key
    return ApiKeys(options.api_keys, [Owner("supervisor", supervisor)] if supervisor else [])


@contextlib.asynccontextmanager
async def _lifespan(shelf: Shelf, media: MediaSource, keys: ApiKeys | None) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(shelf.sweep_forever(), name="media-sweep")]
    if keys is not None:
        tasks.append(asyncio.create_task(keys.watch_forever(), name="api-keys"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await shelf.close()
        await media.close()


async def _web_error(request: Request, error: Exception) -> Response:
    """Unknown addresses and methods, as the framework reports them."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = dict(getattr(error, "headers", None) or {})
    if status == 405:
        headers["Allow"] = _methods_at(request)
    return plain(status, f"{request.method} {request.url.path}", headers).response()


def _methods_at(request: Request) -> str:
    """All that the address takes: each method of it is a route of its own, and the framework tells
    those of the first one."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return ", ".join(sorted(found))


def _reporter(metrics: Metrics) -> Callable[[Scope, int, float], None]:
    def report(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        metrics.replied(scope["method"], route, status, seconds)

    return report
