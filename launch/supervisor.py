"""`triptych up`: starts a local cluster's processes, looks after them, and stops them all."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from launch.errors import LaunchError
from launch.keeper import Keeper
from launch.local import LocalCluster

_POLL_S = 0.05
_LEAVE_S = 10.0  # for instances, once their orchestrator is gone: nobody wants anything from them


def supervise(cluster: LocalCluster, start_timeout_s: float, end_with_stdin: bool) -> int:
    """Runs the cluster until it is told to stop; returns the exit code. Raises `LaunchError`."""
    return asyncio.run(_supervise(cluster, start_timeout_s, end_with_stdin))


async def _supervise(cluster: LocalCluster, start_timeout_s: float, end_with_stdin: bool) -> int:
    supervisor = Supervisor(cluster)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    if end_with_stdin:
        loop.add_reader(sys.stdin.fileno(), supervisor.abandon)
    return await supervisor.run(start_timeout_s)


class Supervisor:
    """One cluster's keepers, from the first start to the last exit.

    It stops in the order in which requests end: first the orchestrator, which takes no more of
    them and waits for those that run, then the instances, which have nothing to do any more.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._width = max(len(recipe.name) for recipe in self._recipes)
        self._orchestrator, *self._instances = (
            Keeper(recipe, self._log) for recipe in self._recipes
        )
        self._stop = asyncio.Event()
        self._forced = False

    @property
    def _recipes(self) -> tuple[Any, ...]:
        return (self._cluster.orchestrator, *self._cluster.instances)

    @property
    def _keepers(self) -> list[Keeper]:
        return [self._orchestrator, *self._instances]

    def stop(self) -> None:
        """A signal: the first one asks politely, the second one does not."""
        if self._stop.is_set():
            self.abandon()
        self._stop.set()

    def abandon(self) -> None:
        """Nobody wants the cluster any more: ends every process now."""
        self._forced = True
        self._stop.set()
        for keeper in self._keepers:
            keeper.kill()

    async def run(self, start_timeout_s: float) -> int:
        self._log("up", str(self._cluster.plan))
        keeping = [asyncio.create_task(keeper.keep()) for keeper in self._keepers]
        reporting = asyncio.create_task(self._report(start_timeout_s))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await _until(stopping, {reporting, *keeping})
            await self._drain(keeping)
        finally:
            for keeper in self._keepers:
                keeper.kill()
            for task in (reporting, stopping):
                task.cancel()
            await asyncio.gather(reporting, stopping, *keeping, return_exceptions=True)
        return 1 if self._forced else 0

    async def _drain(self, keeping: list[asyncio.Task[None]]) -> None:
        self._log("up", "stopping; running requests may finish (again: stop at once)")
        self._orchestrator.terminate()
        await asyncio.wait(keeping[:1])
        for keeper in self._instances:
            keeper.terminate()
        _, late = await asyncio.wait(keeping, timeout=_LEAVE_S)
        for keeper in self._instances if late else ():
            keeper.kill()
        await asyncio.wait(keeping)

    async def _report(self, start_timeout_s: float) -> None:
        """Waits until the cluster can be used, and prints the ready line."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(start_timeout_s):
                for keeper in self._keepers:
                    await keeper.came_up.wait()
                view = await self._ready_view()
        except TimeoutError:
            raise LaunchError(self._who_is_late(start_timeout_s)) from None
        print(json.dumps(self._ready_line(view)), flush=True)
        elapsed = asyncio.get_running_loop().time() - began
        self._log("up", f"ready at http://{self._cluster.http.reachable} after {elapsed:.1f} s")

    async def _ready_view(self) -> dict[str, Any]:
        """GET /v1/cluster, once /ready says 200 of our model, if the cluster has all its roles by
        itself. Others that join may bring models of theirs."""
        import httpx

        url, complete = f"http://{self._cluster.http.reachable}", self._cluster.plan.complete
        key = self._cluster.key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            while True:
                with suppress(httpx.TransportError):  # the orchestrator may just be started again
                    view: dict[str, Any] = (await client.get("/v1/cluster")).json()
                    ours = self._model(view)
                    asked = {"model": ours} if ours else None
                    if not complete or (await client.get("/ready", params=asked)).is_success:
                        return view
                await asyncio.sleep(_POLL_S)

    def _model(self, view: dict[str, Any]) -> str | None:
        """What the cluster calls the model of our instances, once one of them is there."""
        mine = {keeper.recipe.name for keeper in self._keepers}
        there = (instance for instances in view.get("roles", {}).values() for instance in instances)
        return next((x.get("model") for x in there if x["name"] in mine), None)

    def _ready_line(self, view: dict[str, Any]) -> dict[str, Any]:
        ranks = {
            instance["name"]: [rank["pid"] for rank in instance["ranks"]]
            for instances in view["roles"].values()
            for instance in instances
        }
        return {
            "ready": True,
            "pid": os.getpid(),
            "http": f"http://{self._cluster.http.reachable}",
            "control": self._cluster.control.reachable.tcp,
            "processes": [
                {
                    "role": keeper.recipe.role,
                    "name": keeper.recipe.name,
                    "pid": keeper.pid,
                    "rank_pids": ranks.get(keeper.recipe.name, []),
                }
                for keeper in self._keepers
            ],
        }

    def _who_is_late(self, seconds: float) -> str:
        late = [keeper for keeper in self._keepers if not keeper.came_up.is_set()]
        if not late:
            return f"all processes run, but the cluster was not ready within {seconds:g} s"
        names = ", ".join(keeper.recipe.name for keeper in late)
        return f"{names} did not come up within {seconds:g} s: {late[0].last_words()}"

    def _log(self, name: str, line: str) -> None:
        with suppress(OSError):  # nobody may be there to read it
            print(f"{name:<{self._width}} | {line}", file=sys.stderr, flush=True)


async def _until(end: asyncio.Task[Any], others: set[asyncio.Task[Any]]) -> None:
    """Returns when `end` is done. Raises what one of the others raised, as soon as it has."""
    waiting = {end, *others}
    while not end.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
