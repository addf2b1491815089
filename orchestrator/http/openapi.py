"""/openapi.json: FastAPI lists the routes, the bodies come from the Structs that decode them."""

import re
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrator.http.endpoints.job_page import JobList, JobPage
from orchestrator.http.endpoints.pages import (
    Health,
    InstanceLeaves,
    ModelList,
    ModelPage,
    OneModelPage,
    Ready,
)
from orchestrator.http.endpoints.rpc import RpcReply, RpcRequest
from orchestrator.http.endpoints.video_page import VideoDeleted, VideoList, VideoPage
from orchestrator.http.errors import ErrorReply
from orchestrator.http.request.schema import (
    AudioRequest,
    EditRequest,
    ImageRequest,
    ImagesReply,
    JobRequest,
    RemixRequest,
    VideoRequest,
)
from orchestrator.jobs.model import JobStatus
from orchestrator.service import ClusterView

Schema = dict[str, Any]  # JSON Schema has no narrower type

STRUCTS = (
    AudioRequest,
    ClusterView,
    EditRequest,
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
    OneModelPage,
    Ready,
    RemixRequest,
    RpcReply,
    RpcRequest,
    VideoDeleted,
    VideoList,
    VideoPage,
    VideoRequest,
)


def body_of(struct: type[msgspec.Struct]) -> Schema:
    """The `content` of a request or reply body."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{struct.__name__}"}}}


def described(
    reply: type[msgspec.Struct] | str,
    *,
    status: int = 200,
    request: type[msgspec.Struct] | None = None,
    parameters: Iterable[Schema] = (),
    form: bool = False,
) -> Schema:
    """What a route adds to its own entry (FastAPI's `openapi_extra`). `reply`: a Struct, or the
    type of a body that is no JSON. `form`: the request may be one, with the same fields."""
    content = {reply: {"schema": {"type": "string"}}} if isinstance(reply, str) else body_of(reply)
    entry: Schema = {
        "parameters": list(parameters),
        "responses": {
            str(status): {"description": "Done", "content": content},
            "default": {"description": "An error", "content": body_of(ErrorReply)},
        },
    }
    if request is not None:
        content = body_of(request)
        if form:
            content = {**content, "multipart/form-data": content["application/json"]}
        entry["requestBody"] = {"required": True, "content": content}
    return entry


def query(name: str, text: str, **schema: object) -> Schema:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def header(name: str, text: str, **schema: object) -> Schema:
    return {"name": name, "in": "header", "description": text, "schema": schema}


IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "Names the request: a second one with the same key gets the first one's result.",
    type="string",
    maxLength=255,
)
LAST_EVENT_ID = header(
    "Last-Event-ID", "The id of the last event that was seen.", type="integer", minimum=0
)
JOB_LIST = (
    query("limit", "Jobs in one page.", type="integer", minimum=1, maximum=100, default=20),
    query("after", "The last_id of the page before.", type="string"),
    query("status", "Only those.", type="string", enum=list(get_args(JobStatus))),
)
VIDEO_LIST = (
    query("limit", "Videos in one page.", type="integer", minimum=1, maximum=100, default=20),
    query("after", "The last_id of the page before.", type="string"),
    query("order", "By their age.", type="string", enum=["asc", "desc"], default="desc"),
)
VARIANT = query(
    "variant",
    "The video, its first frame, or many small ones.",
    type="string",
    enum=["video", "thumbnail", "spritesheet"],
    default="video",
)
FILE_INDEX = query("index", "Which of the files.", type="integer", minimum=0, default=0)


def _name_path_parameters(page: Schema) -> None:
    """Every `{name}` of a path, for all that is done there."""
    for path, item in page["paths"].items():
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` give the routes together with the schemas of the Structs."""

    def openapi() -> Schema:
        if app.openapi_schema is None:
            page = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _name_path_parameters(page)
            _, components = msgspec.json.schema_components(
                STRUCTS, ref_template="#/components/schemas/{name}"
            )
            page.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = page
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
