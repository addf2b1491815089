"""An instance on two hosts whose network is the kernel's own, with different addresses: a link that
goes down between them leaves no rank, and all are there again when it is up."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.chaos.test_partitions import _ip, namespace
from tests.support.leader_process import gone
from tests.support.pipelines import PARAMS, build
from tests.support.scripted_orchestrator import ScriptedOrchestrator
from tests.support.splitting import plain
from tests.support.wide import NAME, Wide

__all__ = ["namespace"]  # the fixture


@pytest.mark.timeout(900)
async def test_ranks_of_hosts_that_lose_each_other_end_and_come_back(
    namespace: tuple[str, str], tmp_path: Path
) -> None:
    name, address = namespace
    folder = build(NAME, tmp_path / NAME)
    torch.set_num_threads(1)
    (expected,) = plain(folder, PARAMS[NAME], 1)
    async with ScriptedOrchestrator(heartbeat_s=5.0) as them, AsyncExitStack() as stack:
        wide = Wide(them, stack, folder, address, within=("ip", "netns", "exec", name))
        await asyncio.gather(wide.start_node(), wide.start_leader())
        await asyncio.gather(wide.node.wait_ready(), wide.leader.wait_ready())
        await them.ready("wide")
        assert np.array_equal(await wide.picture(1, exact=True), expected)
        inside = f"n{name[5:]}"
        _ip("-n", name, "link", "set", inside, "down")
        changed = await wide.changes("starting")
        assert "node 1" in changed.cause
        for pid in wide.leader.ready["rank_pids"]:  # on both sides, each by itself
            await gone(pid)
        _ip("-n", name, "link", "set", inside, "up")
        again = await wide.changes("ready")
        wide.leader.ready["rank_pids"] = [rank.pid for rank in again.ranks]
        assert np.array_equal(await wide.picture(1, exact=True), expected)
