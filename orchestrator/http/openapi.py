"""/openapi.json: FastAPI lists the routes, the bodies come from the Structs that decode them."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrator.http.errors import ErrorReply
from orchestrator.http.job_page import JobList, JobPage
from orchestrator.http.pages import Health, InstanceLeaves, ModelList, ModelPage, Ready
from orchestrator.http.schema import ImageRequest, ImagesReply, JobRequest
from orchestrator.service import ClusterView

Schema = dict[str, Any]  # JSON Schema has no narrower type

STRUCTS = (
    ClusterView,
    ErrorReply,
    Health,
    ImageRequest,
    ImagesReply,
    InstanceLeaves,
    JobList,
    JobPage,
    JobRequest,
    ModelList,
    ModelPage,
    Ready,
)


def body_of(struct: type[msgspec.Struct]) -> Schema:
    """The `content` of a request or reply body."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{struct.__name__}"}}}


def described(
    reply: type[msgspec.Struct],
    *,
    status: int = 200,
    request: type[msgspec.Struct] | None = None,
) -> Schema:
    """What a route adds to its own entry (FastAPI's `openapi_extra`)."""
    entry: Schema = {
        "responses": {
            str(status): {"description": "Done", "content": body_of(reply)},
            "default": {"description": "An error", "content": body_of(ErrorReply)},
        }
    }
    if request is not None:
        entry["requestBody"] = {"required": True, "content": body_of(request)}
    return entry


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` give the routes together with the schemas of the Structs."""

    def openapi() -> Schema:
        if app.openapi_schema is None:
            page = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, components = msgspec.json.schema_components(
                STRUCTS, ref_template="#/components/schemas/{name}"
            )
            page.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = page
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
