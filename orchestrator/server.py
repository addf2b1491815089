"""The orchestrator's process: the control channel and the front door in one event loop.

`serve(options)` is the entry of `triptych serve --disagg-role orchestrator`.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

import uvloop

from orchestrator.control import Control, configure
from orchestrator.core.policies import POLICIES
from orchestrator.descriptors import allow_connections
from orchestrator.http import HttpOptions, create_app
from orchestrator.http.media.gateway import MediaGateway
from orchestrator.http.server import bind, serving
from orchestrator.jobs.folder import StateFolder
from orchestrator.jobs.journal import Journal
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.media import MediaKeeper
from orchestrator.jobs.service import Jobs
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Service
from orchestrator.uploads import Uploads
from transfer.errors import KeysError
from transfer.keys import KeyPair, cluster_keys
from transfer.media import MediaClient, MediaServer

log = logging.getLogger("orchestrator")

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
GRACE_S = 30.0  # for running requests to finish after SIGTERM
SWEEP_S = 5.0  # how often connections to instances that are gone are looked for
AT_ONCE_S = 1.0  # for connections to be closed after the second one


def serve(options: OrchestratorOptions) -> int:
    """Runs until SIGTERM or SIGINT: 0 after running requests have finished, 1 if a second signal
    cut them off, if a port or the state folder is taken, if the journal cannot be read, or if a
    loop stopped by itself."""
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    allow_connections()
    try:
        return uvloop.run(_serve(options))
    except (OSError, ValueError, RuntimeError, KeysError) as error:
        print(f"triptych: orchestrator: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1


async def _serve(options: OrchestratorOptions) -> int:
    if options.policy not in POLICIES:
        raise ValueError(f"policy {options.policy}: there are {', '.join(POLICIES)}")
    keys = cluster_keys(options.keys)
    stop = _signals()
    uploads = Uploads()
    host = options.bind.rpartition(":")[0]
    async with (
        MediaServer(f"{host}:0", keys, find=uploads.find) as given_out,
        _control(options, keys, given_out.port) as (control, running),
        contextlib.AsyncExitStack() as stack,
    ):
        try:
            listener = bind(options.http)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot listen at {options.http}: {reason}") from error
        stack.callback(listener.close)
        connect = partial(MediaClient, keys=keys)
        media = MediaGateway(options.media_store, connect=connect)
        of_jobs = MediaGateway(options.media_store, connect=connect)
        service = Service(control, options.request_timeout_s, media.release)
        jobs, ticking, folder = await stack.enter_async_context(_jobs(options, control, of_jobs))
        uploads.open(folder.uploads)
        sweeping = asyncio.create_task(_sweep(control, media, of_jobs), name="media connections")
        stack.callback(sweeping.cancel)
        service.count_also(lambda: jobs.counters)
        http = _http_options(options)
        app = create_app(service, media, jobs, http, healthy=service.healthy, uploads=uploads)
        leaving = app.state.leaving
        async with serving(app, listener, grace_s=GRACE_S, leaving=leaving) as url:
            _announce(_reachable(url), control.endpoint)
            if options.state_dir is None:
                log.info("jobs do not outlive this process: it has no --state-dir")
            stopped = asyncio.create_task(stop.wait())
            assert given_out.task is not None
            loops = {running, ticking, sweeping, given_out.task}
            await asyncio.wait(loops | {stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        return _verdict(*loops)


async def _sweep(control: Control, *gateways: MediaGateway) -> None:
    """Never returns."""
    while True:
        await asyncio.sleep(SWEEP_S)
        instances = control.machine.books.registry.by_endpoint
        for gateway in gateways:
            await gateway.close_gone(instances.__contains__)


def _http_options(options: OrchestratorOptions) -> HttpOptions:
    return HttpOptions(
        media_store=options.media_store,
        max_pixels=options.max_pixels,
        request_timeout_s=options.request_timeout_s,
        job_ttl_s=options.job_ttl_s,
        api_keys=options.api_keys,
        supervisor_key=options.supervisor_key,
        rate_limit=options.rate_limit,
    )


@contextlib.asynccontextmanager
async def _control(
    options: OrchestratorOptions, keys: KeyPair, uploads_port: int
) -> AsyncIterator[tuple[Control, asyncio.Task[None]]]:
    """The control channel, bound and running."""
    control = Control(configure(options, uploads_port), keys)
    try:
        control.bind(options.bind)
        running = asyncio.create_task(control.run(), name="control")
        try:
            yield control, running
        finally:
            running.cancel()
            await asyncio.wait({running})
    finally:
        control.close()


@contextlib.asynccontextmanager
async def _jobs(
    options: OrchestratorOptions, control: Control, gateway: MediaGateway
) -> AsyncIterator[tuple[Jobs, asyncio.Task[None], StateFolder]]:
    """The journal, read, and the jobs in it, going on. `gateway`: one of their own, for the front
    door closes its before they end."""
    if options.journal is not None and options.state_dir is None:
        raise ValueError("--journal needs --state-dir, where the files of jobs are kept")
    limits = Limits(ttl_s=options.job_ttl_s, nbytes=options.job_bytes)
    with StateFolder(options.state_dir) as folder:
        keeper = MediaKeeper(folder.media, gateway, options.media_store)
        jobs = Jobs(control, Journal(options.journal or folder.journal), keeper, limits)
        await jobs.start()
        ticking = asyncio.create_task(jobs.run(), name="jobs")
        try:
            yield jobs, ticking, folder
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})
            await jobs.close()
            await gateway.close()


def _verdict(*loops: asyncio.Task[None]) -> int:
    """The exit status: no loop ever ends by itself, unless it is broken."""
    for loop in loops:
        if loop.done():
            log.critical("the loop %s stopped", loop.get_name(), exc_info=loop.exception())
            return 1
    log.info("stopped")
    return 0


def _signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. The second one ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    main = asyncio.current_task()
    assert main is not None

    def on_signal() -> None:
        if not stop.is_set():
            log.info("stopping: running requests have %g s to finish", GRACE_S)
            stop.set()
            return
        loop.call_later(AT_ONCE_S, os._exit, 1)
        main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _reachable(url: str) -> str:
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _announce(http: str, control: str) -> None:
    """The one line of standard output."""
    facts = {
        "ready": True,
        "role": "orchestrator",
        "name": "orchestrator",
        "pid": os.getpid(),
        "http": http,
        "control": control,
    }
    print(json.dumps(facts), flush=True)
