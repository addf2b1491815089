"""Which address is whose, and what /openapi.json says of it."""

from collections.abc import Callable

from fastapi import FastAPI, Response

from orchestrator.http.endpoints.edits import Edits
from orchestrator.http.endpoints.images import Images
from orchestrator.http.endpoints.job_page import JobList, JobPage
from orchestrator.http.endpoints.jobs import JobDesk
from orchestrator.http.endpoints.links import Links
from orchestrator.http.endpoints.pages import (
    Health,
    InstanceLeaves,
    ModelList,
    OneModelPage,
    Pages,
    Ready,
)
from orchestrator.http.endpoints.rpc import Rpc, RpcReply, RpcRequest
from orchestrator.http.endpoints.video_page import VideoDeleted, VideoList, VideoPage
from orchestrator.http.endpoints.videos import Videos
from orchestrator.http.openapi import (
    FILE_INDEX,
    IDEMPOTENCY_KEY,
    JOB_LIST,
    LAST_EVENT_ID,
    VARIANT,
    VIDEO_LIST,
    described,
)
from orchestrator.http.request.schema import (
    AudioRequest,
    EditRequest,
    ImageRequest,
    ImagesReply,
    JobRequest,
    RemixRequest,
    VideoRequest,
)
from orchestrator.service import ClusterView


def add_images(app: FastAPI, images: Images, edits: Edits, links: Links) -> None:
    app.post(
        "/v1/images/generations",
        summary="Make pictures from a prompt",
        openapi_extra=described(ImagesReply, request=ImageRequest, parameters=[IDEMPOTENCY_KEY]),
    )(images.generate)
    for path, handler, summary in (
        ("edits", edits.edit, "Make pictures from pictures"),
        ("variations", edits.vary, "Make pictures like one"),
    ):
        app.post(
            f"/v1/images/{path}",
            summary=summary,
            openapi_extra=described(
                ImagesReply, request=EditRequest, parameters=[IDEMPOTENCY_KEY], form=True
            ),
        )(handler)
    app.post(
        "/v1/audio/generations",
        summary="Make sounds from a prompt",
        openapi_extra=described(
            ImagesReply, request=AudioRequest, parameters=[IDEMPOTENCY_KEY], form=True
        ),
    )(images.generate_audio)
    app.get("/v1/media/{id}", summary="A file that a reply links to")(links.fetch)
    app.head("/v1/media/{id}", include_in_schema=False)(links.fetch)


def add_jobs(app: FastAPI, jobs: JobDesk) -> None:
    app.post(
        "/v1/jobs",
        status_code=202,
        summary="Make pictures from a prompt, whether the client waits or not",
        openapi_extra=described(
            JobPage, status=202, request=JobRequest, parameters=[IDEMPOTENCY_KEY], form=True
        ),
    )(jobs.create)
    app.get(
        "/v1/jobs",
        summary="Jobs, the newest first",
        openapi_extra=described(JobList, parameters=JOB_LIST),
    )(jobs.list)
    job = "/v1/jobs/{id}"
    app.get(job, summary="One job", openapi_extra=described(JobPage))(jobs.show)
    app.delete(job, summary="Cancel it", openapi_extra=described(JobPage))(jobs.cancel)
    app.get(
        f"{job}/events",
        response_class=Response,
        summary="Server-sent events until it is over",
        openapi_extra=described("text/event-stream", parameters=[LAST_EVENT_ID]),
    )(jobs.events)
    app.get(
        f"{job}/content",
        response_class=Response,
        summary="A finished file",
        openapi_extra=described("image/*", parameters=[FILE_INDEX]),
    )(jobs.content)
    app.head(f"{job}/content", include_in_schema=False)(jobs.content)


def add_videos(app: FastAPI, videos: Videos) -> None:
    """As OpenAI has them; `cancel` is ours."""
    page, list_page = described(VideoPage), described(VideoList, parameters=VIDEO_LIST)
    asked = described(VideoPage, request=VideoRequest, parameters=[IDEMPOTENCY_KEY], form=True)
    app.post("/v1/videos", summary="Make a video", openapi_extra=asked)(videos.create)
    app.get("/v1/videos", summary="Videos", openapi_extra=list_page)(videos.list)
    one = "/v1/videos/{id}"
    app.get(one, summary="One video", openapi_extra=page)(videos.show)
    app.delete(one, summary="Cancel it and forget it", openapi_extra=described(VideoDeleted))(
        videos.delete
    )
    app.post(f"{one}/cancel", summary="Cancel it", openapi_extra=page)(videos.cancel)
    app.post(
        f"{one}/remix",
        summary="The same with another prompt",
        openapi_extra=described(VideoPage, request=RemixRequest, parameters=[IDEMPOTENCY_KEY]),
    )(videos.remix)
    app.get(
        f"{one}/content",
        response_class=Response,
        summary="The finished file, or a still picture of it",
        openapi_extra=described("video/*", parameters=[VARIANT]),
    )(videos.content)
    app.head(f"{one}/content", include_in_schema=False)(videos.content)


def add_rpc(app: FastAPI, rpc: Rpc) -> None:
    app.post(
        "/v1/cluster/rpc",
        summary="Ask something of every rank of a role, or of an instance",
        openapi_extra=described(RpcReply, request=RpcRequest),
    )(rpc.call)


def add_pages(app: FastAPI, pages: Pages) -> None:
    def page(path: str, handler: Callable[..., object], reply: type, summary: str) -> None:
        app.get(path, summary=summary, openapi_extra=described(reply))(handler)
        app.head(path, include_in_schema=False)(handler)  # as probes ask

    page("/v1/models", pages.models, ModelList, "The models that are served")
    page("/v1/models/{name:path}", pages.model, OneModelPage, "One model")
    page("/v1/cluster", pages.cluster, ClusterView, "Instances and requests")
    page("/health", pages.health, Health, "Whether the orchestrator runs")
    page("/ready", pages.ready, Ready, "Whether requests can run, and what is missing")
    app.get("/metrics", summary="For Prometheus")(pages.metrics)
    app.head("/metrics", include_in_schema=False)(pages.metrics)
    instance = "/v1/cluster/instances/{name}"
    app.post(
        f"{instance}/drain",
        status_code=202,
        summary="Give it no more work; it leaves when it has none",
        openapi_extra=described(InstanceLeaves, status=202),
    )(pages.drain)
    app.delete(instance, summary="Take it out now", openapi_extra=described(InstanceLeaves))(
        pages.remove
    )
