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

import uvloop

from orchestrator.control import Control, configure
from orchestrator.core.policies import POLICIES
from orchestrator.http import HttpOptions, create_app
from orchestrator.http.media import MediaGateway
from orchestrator.http.server import bind, serving
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Service

log = logging.getLogger("orchestrator")

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
GRACE_S = 30.0  # for running requests to finish after SIGTERM
AT_ONCE_S = 1.0  # for connections to be closed after the second one


def serve(options: OrchestratorOptions) -> int:
    """Runs until SIGTERM or SIGINT: 0 after running requests have finished, 1 if a second signal
    cut them off, if a port is taken, or if a loop stopped by itself."""
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    try:
        return uvloop.run(_serve(options))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"triptych: orchestrator: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1


async def _serve(options: OrchestratorOptions) -> int:
    if options.policy not in POLICIES:
        raise ValueError(f"policy {options.policy}: there are {', '.join(POLICIES)}")
    stop = _signals()
    async with _control(options) as (control, running):
        try:
            listener = bind(options.http)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot listen at {options.http}: {reason}") from error
        media = MediaGateway(options.media_store)
        service = Service(control, options.request_timeout_s, media.release)
        http = HttpOptions(media_store=options.media_store)
        app = create_app(service, media, http, healthy=service.healthy)
        async with serving(app, listener, grace_s=GRACE_S) as url:
            _announce(_reachable(url), control.endpoint)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        return _verdict(running)


@contextlib.asynccontextmanager
async def _control(
    options: OrchestratorOptions,
) -> AsyncIterator[tuple[Control, asyncio.Task[None]]]:
    """The control channel, bound and running."""
    control = Control(configure(options))
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


def _verdict(running: asyncio.Task[None]) -> int:
    """The exit status: the control loop never ends by itself, unless it is broken."""
    if not running.done():
        log.info("stopped")
        return 0
    log.critical("the control loop stopped", exc_info=running.exception())
    return 1


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
