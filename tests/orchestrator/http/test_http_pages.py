"""The small pages, the form of every error, the metrics, and the description of it all."""

import re

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.service import ClusterView
from tests.support.front_door import MODEL, Door


async def get(door: Door, path: str, method: str = "GET") -> httpx.Response:
    async with door.client() as client:
        return await client.request(method, path)


async def test_the_model_is_listed_as_openai_lists_models() -> None:
    reply = (await get(Door(), "/v1/models")).json()
    assert reply["object"] == "list"
    [model] = reply["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("demo", "model", "triptych")
    assert (model["pipeline"], model["modality"]) == ("ZImagePipeline", "image")
    assert model["default_size"] == "128x128"
    assert "negative_prompt" in [parameter["name"] for parameter in model["parameters"]]


@pytest.mark.parametrize(("name", "status"), [("demo", 200), ("default", 200), ("sdxl", 404)])
async def test_one_model(name: str, status: int) -> None:
    reply = await get(Door(), f"/v1/models/{name}")
    assert reply.status_code == status
    if status == 200:
        assert reply.json()["id"] == "demo"
    else:
        assert reply.json()["error"]["code"] == "model_not_found"


async def test_a_model_of_a_hub_has_a_slash() -> None:
    door = Door(model=msgspec.structs.replace(MODEL, name="org/model"))
    assert (await get(door, "/v1/models/org/model")).json()["id"] == "org/model"
    assert (await get(door, "/v1/models/org%2Fmodel")).json()["id"] == "org/model"


async def test_before_the_first_role_there_is_no_model() -> None:
    door = Door(model=None)
    assert (await get(door, "/v1/models")).json()["data"] == []
    assert (await get(door, "/v1/models/demo")).status_code == 404


async def test_health_follows_the_loops() -> None:
    door = Door()
    assert (await get(door, "/health")).json() == {"ok": True}
    door.healthy = False
    reply = await get(door, "/health")
    assert reply.status_code == 503
    assert reply.json()["ok"] is False
    assert reply.json()["error"]["code"] == "unhealthy"


async def test_ready_names_what_is_missing() -> None:
    door = Door()
    assert (await get(door, "/ready")).json() == {"ready": True, "missing": []}
    door.service.lacking = ["decoder"]
    reply = await get(door, "/ready")
    assert reply.status_code == 503
    error = {
        "message": "not ready: no live instance of decoder",
        "type": "server_error",
        "param": None,
        "code": "not_ready",
    }
    assert reply.json() == {"ready": False, "missing": ["decoder"], "error": error}


async def test_the_cluster_is_what_the_service_says() -> None:
    door = Door()
    reply = await get(door, "/v1/cluster")
    assert msgspec.json.decode(reply.content, type=ClusterView) == door.service.cluster()


async def test_instances_are_drained_and_removed_by_name() -> None:
    door = Door()
    drained = await get(door, "/v1/cluster/instances/d0/drain", "POST")
    assert (drained.status_code, drained.json()) == (202, {"name": "d0", "state": "draining"})
    removed = await get(door, "/v1/cluster/instances/d0", "DELETE")
    assert (removed.status_code, removed.json()) == (200, {"name": "d0", "state": "closed"})
    assert door.service.left == [("drain", "d0"), ("remove", "d0")]


@pytest.mark.parametrize(("path", "method"), [("x/drain", "POST"), ("x", "DELETE")])
async def test_an_unknown_instance_is_not_found(path: str, method: str) -> None:
    reply = await get(Door(), f"/v1/cluster/instances/{path}", method)
    assert reply.status_code == 404
    assert reply.json()["error"]["message"] == "there is no instance `x`; known: d0"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/pictures", 404, "not_found"),
        ("GET", "/v1/jobs/job_9/result", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/cluster/rpc", 405, "method_not_allowed"),
        ("GET", "/health/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/images/generations", 405, "method_not_allowed"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_errors_of_the_web_server_have_the_same_form(
    method: str, path: str, status: int, code: str
) -> None:
    reply = await get(Door(), path, method)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("HEAD", "/v1/jobs/j", "DELETE, GET"),
        ("OPTIONS", "/v1/videos/v/content", "GET, HEAD"),
        ("GET", "/v1/images/edits", "POST"),
        ("DELETE", "/v1/models/owner/name", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_all_that_the_address_takes(
    method: str, path: str, allowed: str
) -> None:
    reply = await get(Door(), path, method)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


async def test_who_finds_nothing_is_told_where_to_look() -> None:
    error = (await get(Door(), "/")).json()["error"]
    assert error["message"].endswith("address: GET /; GET /openapi.json lists what there is")


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/metrics", "/v1/models", "/v1/models/demo", "/v1/cluster"]
)
async def test_pages_have_heads(path: str) -> None:
    """Load balancers and `curl -I` ask so."""
    door = Door()
    asked, seen = await get(door, path, "HEAD"), await get(door, path)
    assert (asked.status_code, seen.status_code) == (200, 200)
    assert asked.headers["content-type"] == seen.headers["content-type"]


async def test_every_reply_has_an_id_of_its_own() -> None:
    door = Door()
    ids = []
    async with door.client() as client:
        for path in ("/health", "/v1/models", "/nothing", "/metrics", "/v1/media/x"):
            reply = await client.get(path, headers={"x-request-id": "mine"})
            ids.append(reply.headers["x-request-id"])
        reply = await client.post("/v1/images/generations", content=b"{")
        ids.append(reply.headers["x-request-id"])
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("req_[0-9a-f]{24}", id) for id in ids)


async def samples(door: Door) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics by its name and the values of its labels."""
    async with door.client() as client:
        await client.post("/v1/images/generations", json={"prompt": "a", "n": 2})
        await client.post("/v1/images/generations", json={"prompt": "a", "n": 99})
        await client.get("/nothing/at/all")
        await client.request("BREW", "/pot")
        reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(reply.text))
    assert all(family.name.startswith("triptych_") for family in families)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_the_metrics_tell_what_happened() -> None:
    door = Door()
    door.service.lacking = []
    seen = await samples(door)
    route = "/v1/images/generations"
    assert seen["triptych_http_requests_total", "POST", route, "200"] == 1
    assert seen["triptych_http_requests_total", "POST", route, "400"] == 1
    assert seen["triptych_http_requests_total", "GET", "unknown", "404"] == 1
    assert seen["triptych_http_requests_total", "other", "unknown", "404"] == 1
    assert seen["triptych_http_request_seconds_count", route] == 2
    assert seen["triptych_stage_seconds_count", "demo", "denoiser"] == 2
    assert seen["triptych_stage_seconds_sum", "demo", "denoiser"] == pytest.approx(0.4)
    assert seen["triptych_stage_seconds_count", "demo", "monolithic"] == 0
    assert seen["triptych_requests_total", "completed"] == 5
    assert seen["triptych_requests_total", "cancelled"] == 1
    assert seen[("triptych_queued_requests",)] == 3
    assert seen["triptych_instances", "demo", "denoiser", "ready"] == 1
    assert seen["triptych_ranks", "demo", "decoder", "ready"] == 1
    assert seen["triptych_capacity_requests", "demo", "decoder"] == 4
    assert seen["triptych_in_flight_requests", "demo", "encoder"] == 1
    assert seen["triptych_model_ready", "demo"] == 1
    assert seen["triptych_model_queued_requests", "demo"] == 3
    assert seen["triptych_model_running_requests", "demo"] == 1
    assert seen["triptych_model_requests_total", "demo", "failed"] == 2
    assert seen["triptych_slots", "d0", "free"] == 5
    assert seen["triptych_slots", "d0", "quarantined"] == 1
    assert seen["triptych_encoder_cache_lookups_total", "d0", "hit"] == 7
    assert seen["triptych_encoder_cache_lookups_total", "d0", "miss"] == 2
    assert seen["triptych_encoder_cache_bytes", "d0"] == 4096
    assert seen["triptych_encoder_cache_limit_bytes", "d0"] == 8192
    assert seen[("triptych_ready",)] == 1
    assert seen["triptych_protocol_errors_total", "magic"] == 2
    assert seen["triptych_events_total", "requests_refused"] == 4


async def test_pictures_of_jobs_are_measured_too() -> None:
    async with Door().client() as client:
        for path in ("/v1/jobs", "/v1/images/generations"):
            key = {"idempotency-key": path}
            await client.post(path, json={"prompt": "a", "n": 2}, headers=key)
        page = (await client.get("/metrics")).text
    assert 'triptych_stage_seconds_count{model="demo",stage="encoder"} 4.0' in page


async def test_two_doors_count_apart() -> None:
    first, second = Door(), Door()
    await samples(first)
    seen = await samples(second)
    assert seen["triptych_stage_seconds_count", "demo", "denoiser"] == 2


async def test_the_description_knows_the_fields() -> None:
    page = (await get(Door(), "/openapi.json")).json()
    operation = page["paths"]["/v1/images/generations"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ImageRequest"
    }
    fields = page["components"]["schemas"]["JobRequest"]["properties"]
    assert fields["type"]["anyOf"][0] == {"enum": ["audio", "image", "video"]}
    assert page["paths"]["/v1/jobs/{id}"]["delete"]["responses"]["200"]
    assert page["paths"]["/v1/jobs"]["post"]["responses"]["202"]
    named = {each["name"] for each in page["paths"]["/v1/jobs"]["get"]["parameters"]}
    assert named == {"limit", "after", "status"}
    assert page["paths"]["/v1/jobs/{id}/events"]["parameters"][0]["name"] == "id"
    events = page["paths"]["/v1/jobs/{id}/events"]["get"]
    assert events["parameters"][0]["name"] == "Last-Event-ID"
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "200" not in page["paths"]["/v1/jobs"]["post"]["responses"]
    assert "progress" in page["components"]["schemas"]["JobPage"]["properties"]
    fields = page["components"]["schemas"]["ImageRequest"]["properties"]
    assert fields["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert all("description" in field for field in fields.values())
    assert not re.findall(r"#/\$defs", str(page))
    for reference in re.findall(r"'#/components/schemas/(\w+)'", str(page)):
        assert reference in page["components"]["schemas"]
