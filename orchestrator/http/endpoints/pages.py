"""The small pages: health, readiness, the models, the cluster, metrics."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.errors import ApiError, ErrorBody, not_ready, unhealthy
from orchestrator.http.ports import Service
from orchestrator.http.request.choice import USUAL, chosen, model_not_found
from orchestrator.http.request.model_schema import request_schema
from orchestrator.metrics import Metrics
from transfer.made import RateFrom
from transfer.messages import (
    ROLES,
    ModelInfo,
    Parameter,
    Replaced,
    Role,
    Speed,
    StepCacheType,
    Structure,
)


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `GET /v1/models`: OpenAI's four keys, and what the roles registered.

    `fps`: of a video, where a request says nothing; `fps_from`: who says so, as in a job's files.
    `sample_rate`: of what the model makes to hear, in Hz. `pictures`, `films`, `sounds`: the
    arguments that take media which come with a request. `structures`: those that are objects.
    `revision`: the commit of a hub's model; `replaced`: its components that come from elsewhere.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "triptych"
    pipeline: str
    modality: str
    default_size: str | None
    size_multiple: int
    parameters: list[Parameter]
    step_caches: list[StepCacheType]
    speed: Speed | None
    fps: float | None
    fps_from: RateFrom | None
    sample_rate: int | None
    pictures: list[str]
    films: list[str]
    sounds: list[str]
    revision: str | None
    replaced: list[Replaced]
    structures: list[Structure]


class OneModelPage(ModelPage, frozen=True, kw_only=True):
    """`GET /v1/models/{id}`. `schema`: JSON Schema, draft 2020-12, of the body of `POST /v1/jobs`,
    with the pipeline's own arguments: their types, defaults and, where they are known, ranges."""

    schema: dict[str, Any]


class ModelList(msgspec.Struct, frozen=True):
    object: str
    data: list[ModelPage]


class Ready(msgspec.Struct, frozen=True):
    """`missing`: roles of the route without a ready instance; where several models are served, of
    all their routes, and of each in `models`. `error` only where it is 503."""

    ready: bool
    missing: list[str]
    models: dict[str, list[Role]] | msgspec.UnsetType = msgspec.UNSET
    error: ErrorBody | msgspec.UnsetType = msgspec.UNSET


class Health(msgspec.Struct, frozen=True):
    """`ok`: the loops of the orchestrator run. `error` only where they do not."""

    ok: bool
    error: ErrorBody | msgspec.UnsetType = msgspec.UNSET


class InstanceLeaves(msgspec.Struct, frozen=True):
    """The answer to drain and remove."""

    name: str
    state: str


class Pages:
    """Answers from what the service knows at this moment; nothing here waits."""

    def __init__(
        self, service: Service, metrics: Metrics, healthy: Callable[[], bool], created: int
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._healthy = healthy
        self._created = created

    async def health(self, request: Request) -> Response:
        if self._healthy():
            return json_response(Health(True))
        refusal = unhealthy()
        return json_response(Health(False, refusal.body), refusal.status)

    async def ready(self, request: Request) -> Response:
        """`?model=NAME`: of that one alone. Otherwise of all: where several are served, one that
        cannot be used makes this a 503, whatever becomes of the others."""
        routes = self._service.routes()
        if (name := request.query_params.get("model")) is not None:
            model = chosen(self._service, name).name
            routes = {model: self._service.missing(model)}
        lacking = [model for model, roles in routes.items() if roles]
        missing = [role for role in ROLES if any(role in roles for roles in routes.values())]
        several = routes if len(routes) > 1 else msgspec.UNSET
        if not missing:
            return json_response(Ready(True, [], several))
        whose = ", ".join(lacking) if len(routes) > 1 else None
        asleep = {role for model in lacking for role in self._service.asleep(model)}
        refusal = not_ready(missing, [role for role in missing if role in asleep], whose)
        return json_response(Ready(False, [*missing], several, refusal.body), refusal.status)

    async def models(self, request: Request) -> Response:
        pages = [self._page(model) for model in self._service.models()]
        return json_response(ModelList("list", pages))

    async def model(self, request: Request) -> Response:
        name, usual = request.path_params["name"], self._service.usual_model()
        model = self._service.model(name) or (usual if name == USUAL else None)
        if model is None:
            raise model_not_found(name, self._service)
        fields = msgspec.structs.asdict(self._page(model))
        schema = request_schema(model, usual is not None and usual.name == model.name)
        return json_response(OneModelPage(**fields, schema=schema))

    async def cluster(self, request: Request) -> Response:
        return json_response(self._service.cluster())

    async def drain(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            self._service.drain(name)
        except KeyError:
            raise self._unknown(name) from None
        return json_response(InstanceLeaves(name, "draining"), 202)

    async def remove(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            self._service.remove(name)
        except KeyError:
            raise self._unknown(name) from None
        return json_response(InstanceLeaves(name, "closed"))

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.page(), headers={"content-type": Metrics.content_type})

    def _page(self, model: ModelInfo) -> ModelPage:
        size = model.default_size
        return ModelPage(
            id=model.name,
            created=self._created,
            pipeline=model.pipeline,
            modality=model.modality,
            default_size=f"{size[0]}x{size[1]}" if size else None,
            size_multiple=model.size_multiple,
            parameters=model.parameters,
            step_caches=model.step_caches,
            speed=model.speed,
            fps=model.fps,
            fps_from=model.fps_from,
            sample_rate=model.sample_rate,
            pictures=model.pictures,
            films=model.films,
            sounds=model.sounds,
            revision=model.revision,
            replaced=model.replaced,
            structures=model.structures,
        )

    def _unknown(self, name: str) -> ApiError:
        roles = self._service.cluster().roles.values()
        known = sorted({each.name for instances in roles for each in instances})
        message = f"there is no instance `{name[:128]}`; known: {', '.join(known) or 'none'}"
        return ApiError(404, message, code="instance_not_found")


def json_response(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
