"""The front door as one ASGI application: routes, what surrounds them, beginning and end."""

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
from starlette.types import Scope

from orchestrator.http.envelope import Envelope
from orchestrator.http.errors import plain
from orchestrator.http.images import Images
from orchestrator.http.links import Links
from orchestrator.http.openapi import described, install
from orchestrator.http.options import HttpOptions
from orchestrator.http.pages import Health, InstanceLeaves, ModelList, ModelPage, Pages, Ready
from orchestrator.http.ports import MediaSource, Service
from orchestrator.http.schema import ImageRequest, ImagesReply
from orchestrator.http.shelf import Shelf
from orchestrator.http.store import Store
from orchestrator.metrics import Metrics
from orchestrator.service import ClusterView

log = logging.getLogger(__name__)


def create_app(
    service: Service,
    media: MediaSource,
    options: HttpOptions | None = None,
    *,
    healthy: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """The front door of `service`.

    The application owns `media`: both end with its lifespan, which also sweeps expired files and
    removes the private ones. `healthy` is what GET /health tells; it must not wait.
    """
    options = options or HttpOptions()
    shelf = Shelf(Store(options.media_store), options.media_ttl_s, options.media_bytes)
    metrics = Metrics(service)
    app = FastAPI(
        title="Triptych",
        version=version("triptych"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda app: _lifespan(shelf, media),
    )
    _add_routes(
        app,
        Images(service, media, shelf, metrics, options),
        Links(shelf),
        Pages(service, metrics, healthy, created=int(time.time())),
    )
    install(app)
    app.add_exception_handler(HTTPException, _web_error)
    app.add_exception_handler(RequestValidationError, _web_error)
    app.add_middleware(Envelope, report=_reporter(metrics), stall_s=options.stall_s)
    return app


def _add_routes(app: FastAPI, images: Images, links: Links, pages: Pages) -> None:
    app.post(
        "/v1/images/generations",
        summary="Make pictures from a prompt",
        openapi_extra=described(ImagesReply, request=ImageRequest),
    )(images.generate)
    app.get("/v1/media/{id}", summary="A file that a reply links to")(links.fetch)
    app.head("/v1/media/{id}", include_in_schema=False)(links.fetch)

    def page(path: str, handler: Callable[..., object], reply: type, summary: str) -> None:
        app.get(path, summary=summary, openapi_extra=described(reply))(handler)

    page("/v1/models", pages.models, ModelList, "The model that is served")
    page("/v1/models/{name:path}", pages.model, ModelPage, "One model")
    page("/v1/cluster", pages.cluster, ClusterView, "Instances and requests")
    page("/health", pages.health, Health, "Whether the orchestrator runs")
    page("/ready", pages.ready, Ready, "Whether requests can run, and what is missing")
    app.get("/metrics", summary="For Prometheus")(pages.metrics)
    instance = "/v1/cluster/instances/{name}"
    app.post(
        f"{instance}/drain",
        summary="Give it no more work; it leaves when it has none",
        openapi_extra=described(InstanceLeaves, status=202),
    )(pages.drain)
    app.delete(instance, summary="Take it out now", openapi_extra=described(InstanceLeaves))(
        pages.remove
    )


@contextlib.asynccontextmanager
async def _lifespan(shelf: Shelf, media: MediaSource) -> AsyncIterator[None]:
    sweeping = asyncio.create_task(shelf.sweep_forever(), name="media-sweep")
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await shelf.close()
        await media.close()


async def _web_error(request: Request, error: Exception) -> Response:
    """Unknown addresses and methods, as the framework reports them."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = dict(getattr(error, "headers", None) or {})
    return plain(status, f"{request.method} {request.url.path}", headers).response()


def _reporter(metrics: Metrics) -> Callable[[Scope, int, float], None]:
    def report(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        metrics.replied(scope["method"], route, status, seconds)

    return report
