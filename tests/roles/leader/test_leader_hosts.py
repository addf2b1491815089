"""A leader and a node of its instance, in processes of their own, with a real, tiny pipeline in
ranks that are joined over the rendezvous. The tests are in order: each leaves both as the next one
expects them.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
import pytest_asyncio
import torch

from tests.support.leader_process import alive, gone
from tests.support.pipelines import PARAMS, build
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from tests.support.splitting import plain
from tests.support.wide import NAME, SOON_S, Wide
from transfer.actions import Health
from transfer.messages import Answered, Ask, Drain, Failed, Progressed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]
ROUNDING = 1  # of 255


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wide(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wide]:
    """Both are started at once, and neither has to be first."""
    folder = build(NAME, tmp_path_factory.mktemp("models") / NAME)
    async with ScriptedOrchestrator(heartbeat_s=5.0) as them, AsyncExitStack() as stack:
        made = Wide(them, stack, folder)
        await asyncio.gather(made.start_node(), made.start_leader())
        await asyncio.gather(made.node.wait_ready(), made.leader.wait_ready())
        await them.ready("wide")
        yield made


async def test_every_rank_of_every_host_answers(wide: Wide) -> None:
    assert wide.node.ready["name"] == "wide"
    assert wide.node.ready["rank_pids"] == wide.leader.ready["rank_pids"][1:]
    await wide.them.say("wide", Ask(0, 1, Health(), SOON_S))
    answered = await wide.them.hear(Answered, seconds=SOON_S)
    assert [each.pid for each in answered.result.results] == wide.leader.ready["rank_pids"]
    assert all(each.ok and each.host for each in answered.result.results)
    ranks = wide.them.registered["wide"].ranks
    assert [(each.rank, each.host != "") for each in ranks] == [(0, True), (1, True)]


async def test_the_pictures_are_the_plain_pipeline_s(wide: Wide) -> None:
    torch.set_num_threads(1)
    (expected,) = plain(wide.folder, PARAMS[NAME], 1)
    assert np.array_equal(await wide.picture(1, exact=True), expected)
    divided = (await wide.picture(1, exact=False)).astype(int)
    assert np.abs(divided - expected.astype(int)).max() <= ROUNDING


async def test_a_rank_killed_on_the_other_host_takes_all_with_it(wide: Wide) -> None:
    pids = wide.leader.ready["rank_pids"]
    inputs = {**PARAMS[NAME], "num_inference_steps": 900, "seed": 1}
    job = await wide.encoded("long", **inputs)
    grant = wide.them.grant("long", "wide", [2])
    await wide.them.say("wide", work("long", "denoiser", grant=grant, **job))
    await wide.them.hear(Progressed, lambda m: m.request == "long" and m.step > 1, seconds=SOON_S)
    os.kill(pids[1], signal.SIGKILL)
    failed = await wide.them.hear(Failed, lambda m: m.request == "long", seconds=SOON_S)
    assert failed.error.kind == "rank_died"
    assert "rank 1" in failed.error.message
    await wide.changes("starting")
    for pid in pids:
        await gone(pid)
    again = await wide.changes("ready")
    assert not {rank.pid for rank in again.ranks} & set(pids)
    wide.leader.ready["rank_pids"] = [rank.pid for rank in again.ranks]


async def test_a_node_that_is_killed_is_seen_at_once_and_another_one_takes_its_place(
    wide: Wide,
) -> None:
    pids = wide.leader.ready["rank_pids"]
    wide.node.signal(signal.SIGKILL)
    changed = await wide.changes("starting")
    assert "node 1" in changed.cause
    for pid in pids:
        await gone(pid)
    await wide.start_node()
    again = await wide.changes("ready")
    wide.leader.ready["rank_pids"] = [rank.pid for rank in again.ranks]
    assert (await wide.picture(2, exact=True)).shape[-1] == 3


async def test_a_leader_that_is_killed_leaves_no_rank_and_the_node_joins_the_next(
    wide: Wide,
) -> None:
    pids = wide.leader.ready["rank_pids"]
    wide.leader.signal(signal.SIGKILL)
    for pid in pids:
        await gone(pid)
    assert alive(wide.node.process.pid)
    await wide.start_leader()
    await wide.leader.wait_ready()
    await wide.changes("ready")
    assert (await wide.picture(3, exact=True)).shape[-1] == 3


async def test_a_node_that_is_asked_to_stop_has_the_instance_end(wide: Wide) -> None:
    pids = wide.leader.ready["rank_pids"]
    wide.node.signal(signal.SIGTERM)
    await wide.changes("draining")
    await wide.them.say("wide", Drain())
    assert await wide.leader.ended() == 0
    assert await wide.node.ended() == 0
    for pid in pids:
        await gone(pid)
