"""What Prometheus reads at GET /metrics. Names begin with `triptych_` and end with their unit."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Total
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.service import ClusterView, Completed

# From one fast stage on a small model to minutes of video.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
PROTOCOL_ERRORS = "protocol_errors_"  # how their counters' names begin
# What clients may write there is endless, and every label value is kept for ever.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
Counts = Counter[tuple[str, ...]]
STAGES = ("queue", "encoder", "denoiser", "decoder", "monolithic", "transfer", "total")


class Watched(Protocol):
    """The part of the service that is read at each scrape."""

    def cluster(self) -> ClusterView: ...

    def missing(self) -> Sequence[str]: ...

    def counters(self) -> dict[str, int]: ...


class Metrics:
    """One registry per front door: two of them in one process do not meet.

    Pushed, as it happens: `triptych_stage_seconds{stage,model}` of every finished request,
    `triptych_http_requests_total{method,route,status}` and `triptych_http_request_seconds{route}`.
    Read at each scrape from the service: requests by outcome, the queue, instances, slots, ranks,
    the same by model, and everything that the core counts. Names of models are no client's: there
    are as many as roles have registered.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, service: Watched) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ClusterCollector(service))
        self._stages = Histogram(
            "triptych_stage_seconds",
            "Seconds of finished requests: waiting, per role, in transfer, and in total",
            ["stage", "model"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._requests = Total(
            "triptych_http_requests",
            "HTTP requests by route and status; 499: the client went away",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "triptych_http_request_seconds",
            "From the request's head to the last byte of the reply",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )

    def generated(self, made: Completed) -> None:
        for stage in STAGES:
            seconds = getattr(made.timings, f"{stage}_s")
            histogram = self._stages.labels(stage, made.model)  # a model has them all, or none
            if seconds is not None:
                histogram.observe(seconds)

    def replied(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the path as it was declared, so that there are few of them."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        return generate_latest(self._registry)


class ClusterCollector(Collector):
    """Reads the service when Prometheus asks, so that nothing has to be kept in step."""

    def __init__(self, service: Watched) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        return []  # what is there depends on the cluster; asking it needs a running one

    def collect(self) -> Iterator[Metric]:
        view = self._service.cluster()
        yield from _requests(view)
        yield _ready(self._service.missing())
        yield from _models(view)
        yield from _instances(view)
        yield _slots(view)
        yield from _encodings(view)
        yield from _tasks()
        yield from _events(self._service.counters())


def _requests(view: ClusterView) -> Iterator[Metric]:
    for state in ("queued", "running"):
        count = getattr(view.requests, state)
        yield GaugeMetricFamily(f"triptych_{state}_requests", f"Requests {state} now", value=count)
    ended = CounterMetricFamily(
        "triptych_requests", "Requests that ended, by outcome", labels=["outcome"]
    )
    for outcome in ("completed", "failed", "cancelled"):
        ended.add_metric([outcome], getattr(view.requests, outcome))
    yield ended


def _ready(missing: Sequence[str]) -> Metric:
    return GaugeMetricFamily("triptych_ready", "1: requests can run", value=not missing)


def _models(view: ClusterView) -> Iterator[Metric]:
    """One series for each model; the families without the label have the sums."""
    one = ["model"]
    ready = GaugeMetricFamily("triptych_model_ready", "1: its requests can run", labels=one)
    queued = GaugeMetricFamily("triptych_model_queued_requests", "Queued now", labels=one)
    running = GaugeMetricFamily("triptych_model_running_requests", "Running now", labels=one)
    ended = CounterMetricFamily(
        "triptych_model_requests", "Requests that ended, by outcome", labels=["model", "outcome"]
    )
    for name, model in view.models.items():
        ready.add_metric([name], model.ready)
        queued.add_metric([name], model.requests.queued)
        running.add_metric([name], model.requests.running)
        for outcome in ("completed", "failed", "cancelled"):
            ended.add_metric([name, outcome], getattr(model.requests, outcome))
    yield from (ready, queued, running, ended)


def _instances(view: ClusterView) -> Iterator[Metric]:
    """Of each role of each model."""
    there = [(role, each) for role, instances in view.roles.items() for each in instances]
    states, ranks, capacity, in_flight = Counts(), Counts(), Counts(), Counts()
    for role, each in there:
        states[role, each.state, each.model] += 1
        capacity[role, each.model] += each.capacity
        in_flight[role, each.model] += each.in_flight
        for rank in each.ranks:
            ranks[role, rank.state, each.model] += 1
    by_state, by_role = ("role", "state", "model"), ("role", "model")
    yield _counted("triptych_instances", "Instances by role, state and model", states, by_state)
    yield _counted("triptych_ranks", "Ranks by role, state and model", ranks, by_state)
    text = "Requests that a role of a model can take at once"
    yield _counted("triptych_capacity_requests", text, capacity, by_role)
    text = "Requests that a role of a model has"
    yield _counted("triptych_in_flight_requests", text, in_flight, by_role)


def _slots(view: ClusterView) -> Metric:
    """An instance with several roles stands in each of them, but has its slots once."""
    slots = Counts()
    for each in {each.name: each for all in view.roles.values() for each in all}.values():
        free = each.slots.total - each.slots.leased - each.slots.quarantined
        slots.update({(each.name, "free"): free})
        slots.update({(each.name, "leased"): each.slots.leased})
        slots.update({(each.name, "quarantined"): each.slots.quarantined})
    return _counted("triptych_slots", "Slots by instance and state", slots, ("instance", "state"))


def _encodings(view: ClusterView) -> Iterator[Metric]:
    """The caches of encoders, each as of its last heartbeat."""
    lookups = CounterMetricFamily(
        "triptych_encoder_cache_lookups",
        "Encodings that an encoder's cache had (hit) or that were computed (miss)",
        labels=["instance", "result"],
    )
    used = GaugeMetricFamily(
        "triptych_encoder_cache_bytes", "Memory of an encoder's cache in use", labels=["instance"]
    )
    limit = GaugeMetricFamily(
        "triptych_encoder_cache_limit_bytes", "Its --encoder-cache", labels=["instance"]
    )
    for each in view.roles.get("encoder", []):
        if each.encodings is not None:
            lookups.add_metric([each.name, "hit"], each.encodings.hits)
            lookups.add_metric([each.name, "miss"], each.encodings.misses)
            used.add_metric([each.name], each.encodings.nbytes)
            limit.add_metric([each.name], each.encodings.limit)
    yield from (lookups, used, limit)


def _tasks() -> Iterator[Metric]:
    """What grows when something is forgotten. Absent outside of an event loop."""
    with contextlib.suppress(RuntimeError):
        count = len(asyncio.all_tasks())
        yield GaugeMetricFamily("triptych_tasks", "Coroutines that run in this process", count)


def _counted(name: str, text: str, counts: Counts, labels: tuple[str, ...]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _events(counters: dict[str, int]) -> Iterator[Metric]:
    errors = CounterMetricFamily(
        "triptych_protocol_errors", "Frames that were not understood, by reason", labels=["reason"]
    )
    events = CounterMetricFamily(
        "triptych_events", "What else the orchestrator counts, by name", labels=["event"]
    )
    for name, count in counters.items():
        reason = name.removeprefix(PROTOCOL_ERRORS)
        family = events if reason == name else errors
        family.add_metric([reason], count)
    yield from (errors, events)
