"""One instance on two hosts, played by processes of this one: a leader, a node, a tiny pipeline."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from launch.addresses import free_port
from roles.rank.arguments import PROGRAM
from tests.roles.leader.test_three_leaders import read
from tests.support.leader_process import LeaderProcess, leader
from tests.support.pipelines import PARAMS
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from transfer.messages import Delivered, Finished, StateChanged

SOON_S = 240.0
NAME = "sd15_ancestral"  # its sampler draws from the generator at every step
ROLES = ["encoder", "denoiser", "decoder"]


class Wide:
    """One instance on two hosts: the leader's process, the node's, and how both are started."""

    def __init__(
        self,
        them: ScriptedOrchestrator,
        stack: AsyncExitStack,
        folder: Path,
        address: str = "127.0.0.1",
        within: tuple[str, ...] = (),
    ) -> None:
        self.them = them
        self.folder = folder
        self._within = within
        self._stack = stack
        self._given: dict[str, Any] = {
            "program": PROGRAM,
            "model": str(folder),
            "roles": ROLES,
            "ranks": 2,
            "nnodes": 2,
            "rendezvous": f"{address}:{free_port(address)}",
            "ready": False,
        }
        self.leader: LeaderProcess
        self.node: LeaderProcess

    async def start_leader(self) -> None:
        made = leader(self.them.endpoint, name="wide", **self._given)
        self.leader = await self._stack.enter_async_context(made)

    async def start_node(self) -> None:
        made = leader("", node_rank=1, within=self._within, **self._given)
        self.node = await self._stack.enter_async_context(made)

    async def changes(self, state: str) -> StateChanged:
        return await self.them.hear(StateChanged, lambda m: m.state == state, seconds=SOON_S)

    async def encoded(self, request: str, **inputs: Any) -> dict[str, Any]:
        """The work for the denoiser."""
        them = self.them
        grant = them.grant(request, "wide", [0])
        await them.say("wide", work(request, "encoder", grant=grant, **inputs))
        delivered = await them.hear(Delivered, lambda m: m.request == request, seconds=SOON_S)
        return {"delivery": them.deliver(grant, delivered), **inputs}

    async def picture(self, seed: int, exact: bool) -> np.ndarray:
        """Through all roles, by slots that only the first rank's host has."""
        them, request = self.them, f"r{seed}{exact}"
        job = await self.encoded(request, **PARAMS[NAME], seed=seed, exact=exact)
        grant = them.grant(request, "wide", [1])
        await them.say("wide", work(request, "denoiser", grant=grant, **job))
        delivered = await them.hear(Delivered, lambda m: m.request == request, seconds=SOON_S)
        job["delivery"] = them.deliver(grant, delivered)
        await them.say("wide", work(request, "decoder", **job))
        return await read(await them.hear(Finished, lambda m: m.request == request, seconds=SOON_S))
