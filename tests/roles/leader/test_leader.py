"""One leader with its ranks, in processes of their own, against a scripted orchestrator.

The model is scripted (tests/support/scripted_program.py); all else is real.
"""

import asyncio
import hashlib
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace
from PIL import Image as Pillow

from tests.support.leader_process import LeaderProcess, gone, leader
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from tests.transfer.test_pictures import saved
from transfer.actions import Health, HealthReport, LoadLora, UpdateWeights
from transfer.keys import make
from transfer.made import ActionsMade, AudioMade, CustomMade, ImageMade, VideoMade
from transfer.media import MediaClient, MediaServer
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Answered,
    Ask,
    Close,
    Delivered,
    Drain,
    Failed,
    Finished,
    Left,
    Media,
    Progressed,
    Push,
    Refused,
    Register,
    RegisterAgain,
    Staged,
    StateChanged,
    Upload,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROLES = ("encoder", "denoiser", "decoder", "monolithic")
PLAIN = {"roles": ["monolithic"], "ranks_are": "tests.support.plain_rank"}
"""Where the ranks do not matter: these import no torch."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them() -> AsyncIterator[ScriptedOrchestrator]:
    async with ScriptedOrchestrator(heartbeat_s=0.5) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def us(them: ScriptedOrchestrator) -> AsyncIterator[LeaderProcess]:
    """A leader called "all", of every role; tests leave it as they found it."""
    async with leader(them.endpoint, roles=ROLES, name="all", max_batch=2) as made:
        yield made


# ---------------------------------------------------------------- requests


async def test_it_introduces_itself(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    told = await them.ready("all")
    assert us.ready["role"] == "encoder,denoiser,decoder,monolithic"
    assert us.ready["name"] == "all"
    assert us.ready["pid"] == told.host.pid == us.process.pid
    assert us.ready["rank_pids"] == [rank.pid for rank in told.ranks]
    assert [rank.state for rank in told.ranks] == ["ready"]
    assert told.capacity == {"encoder": 2, "denoiser": 5, "decoder": 3, "monolithic": 5}
    assert told.model.name == "scripted"
    assert told.pool.slots == 4


async def test_a_request_through_three_roles(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    first = them.grant("r1", "all", [0])
    await them.say("all", work("r1", "encoder", prompt="hello", grant=first))
    encoded = await them.hear(Delivered)
    second = them.grant("r1", "all", [1, 2])
    delivery = them.deliver(first, encoded)
    job = work("r1", "denoiser", delivery=delivery, grant=second, prompt="hello", steps=5, seed=30)
    await them.say("all", job)
    assert (await them.hear(Accepted)).generation == first.generation
    denoised = await them.hear(Delivered)
    assert denoised.report.steps == 5
    delivery = them.deliver(second, denoised)
    await them.say("all", work("r1", "decoder", delivery=delivery, prompt="hello"))
    (media,) = (await them.hear(Finished)).media
    data = await read_all(media)
    assert Pillow.open(io.BytesIO(data)).getpixel((0, 0)) == (35, 0, 0)  # the seed, five steps


async def test_v7_a_result_of_every_kind_says_what_it_is(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    await them.say("all", work("typed", "monolithic", makes="everything", seed=7))
    media = (await them.hear(Finished)).media
    assert [each.made for each in media] == [
        ImageMade(4, 4),
        VideoMade(4, 4, 2, 10.0, "assumed", sample_rate=8000, channels=2),
        AudioMade(8000, 2, 1600),
        ActionsMade([3, 2]),
        CustomMade("text"),
    ]
    assert [each.seed for each in media] == [7] * 5
    contents = [await read_all(each) for each in media]
    assert contents[1][4:8] == b"ftyp"
    assert contents[2][:4] == b"RIFF"
    assert msgspec.json.decode(contents[3])["actions"] == [[10.0, 10.0]] * 3  # seed, three steps
    assert msgspec.json.decode(contents[4])["text"] == "hello"


async def test_v7_a_result_without_anything_is_an_error(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    await them.say("all", work("empty", "monolithic", makes="nothing"))
    failed = await them.hear(Failed)
    assert (failed.request, failed.error.kind) == ("empty", "internal")
    assert "made nothing" in failed.error.message


async def read_all(media: Media) -> bytes:
    assert media.endpoint is not None
    async with MediaClient(media.endpoint) as client:
        data = b"".join([chunk async for chunk in client.read(media)])
        await client.release(media.id)
    return data


async def test_t16_a_picture_comes_from_the_orchestrator_by_its_hash(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    """No path of anybody's disk is said; the leader would find none of these."""
    data = saved(Pillow.new("RGB", (5, 3), (1, 2, 3)))
    upload = Upload("image", hashlib.sha256(data).hexdigest(), len(data))
    asked = work("t16", "monolithic")
    inputs = replace(asked.inputs, uploads=[upload])
    async with MediaServer("tcp://127.0.0.1:0") as server:
        fd = os.memfd_create("upload")
        os.write(fd, data)
        server.add(upload.hash, fd)
        await them.say("all", replace(asked, inputs=inputs, uploads_port=server.port))
        (media,) = (await them.hear(Finished)).media
    assert Pillow.open(io.BytesIO(await read_all(media))).size == (5, 3)
    gone = replace(
        asked, request="gone", inputs=replace(inputs, uploads=[replace(upload, hash="0" * 64)])
    )
    async with MediaServer("tcp://127.0.0.1:0") as server:
        await them.say("all", replace(gone, uploads_port=server.port))
        failed = await them.hear(Failed)
    assert (failed.request, failed.error.kind) == ("gone", "transfer_failed")


async def test_a_payload_waits_for_its_push(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    await them.say("all", work("r2", "encoder", size=20_000))
    staged = await them.hear(Staged)
    assert staged.nbytes > 80_000
    await them.say("all", Push(0, "r2", 1, "encoder", 1, them.grant("r2", "all", [3, 0])))
    assert (await them.hear(Delivered)).nbytes == staged.nbytes


async def test_an_abort_takes_effect_within_a_step(
    them: ScriptedOrchestrator, us: LeaderProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await them.say("all", work("r3", "monolithic", steps=1000, gate_at="3", gate=str(gate)))
    await them.hear(Progressed, lambda m: (m.request, m.step) == ("r3", 2))
    await them.say("all", Abort(0, "r3", 1, "nobody wants it"))
    await them.say("all", Abort(0, "unknown", 1, ""))
    assert (await them.hear(Aborted)).request == "unknown"  # the step of r3 still runs
    gate.touch()
    assert (await them.hear(Aborted)).request == "r3"
    await them.say("all", work("after", "monolithic"))
    await them.hear(Finished)
    told = [m.step for _, m in them.heard if isinstance(m, Progressed) and m.request == "r3"]
    assert told == [1]  # and 2, heard above


async def test_errors_are_the_request_s_own(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    await them.say("all", work("bad", "monolithic", raise_at="2"))
    await them.say("all", work("worse", "encoder", bad_input_at="encode"))
    await them.say("all", work("good", "monolithic"))
    bad = (await them.hear(Failed, lambda m: m.request == "bad")).error
    assert (bad.kind, bad.instance, bad.rank) == ("rank_failed", "all", 0)
    assert "RuntimeError: scripted at 2" in bad.message
    worse = (await them.hear(Failed)).error
    assert (worse.kind, worse.param) == ("invalid_request", "prompt")
    assert (await them.hear(Finished)).request == "good"


async def test_its_health_is_asked_for(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    await them.say("all", Ask(0, 7, Health(), 60.0))
    told = await them.hear(Answered)
    assert told.number == 7
    (rank,) = told.result.results
    assert (rank.ok, rank.pid) == (True, us.ready["rank_pids"][0])
    assert isinstance(rank.value, HealthReport)
    assert rank.value.device == "cpu"


async def test_v6_what_a_model_does_not_do_is_said_with_the_reason(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    """It is no AttributeError."""
    await them.say("all", Ask(0, 8, LoadLora("a", "/a"), 60.0))
    (rank,) = (await them.hear(Answered)).result.results
    assert rank.error is not None
    assert (rank.error.kind, rank.error.message) == (
        "unsupported",
        "this model takes no adapters",
    )
    await them.hear(StateChanged, lambda m: m.cause == "its adapters")


async def test_v1_weights_that_cannot_be_read_come_with_a_traceback(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    """At the start one line says it all; whoever asks later wants to know where."""
    await them.say("all", Ask(0, 9, UpdateWeights("/w"), 60.0))
    (rank,) = (await them.hear(Answered)).result.results
    assert rank.error is not None
    assert (rank.error.type, rank.error.message) == ("ModelError", "/w: cannot load transformer")
    assert "Traceback" in (rank.error.traceback or "")
    for cause in ("it was asked to update_weights", "its weights"):
        await them.hear(StateChanged, lambda m, cause=cause: m.cause == cause)


async def test_ranks_that_died_are_replaced(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    (pid,) = us.ready["rank_pids"]
    await them.say("all", work("deadly", "monolithic", kill_at="3"))
    cause = f"rank 0 (pid {pid}) of all died of SIGKILL during step 3 of request deadly"
    changed = await them.hear(StateChanged, lambda m: m.cause == cause)
    told = await them.hear(Failed)
    assert changed.state == "starting"
    assert [rank.state for rank in changed.ranks] == ["dead"]
    assert (told.error.kind, told.error.message) == ("rank_died", cause)
    await them.say("all", work("patient", "monolithic", seconds=240))  # it waits for the new ranks
    again = await them.hear(StateChanged, lambda m: m.cause == "the ranks are there", seconds=240)
    assert again.state == "ready"
    us.ready["rank_pids"] = [rank.pid for rank in again.ranks]
    assert us.ready["rank_pids"] != [pid]
    assert (await them.hear(Finished)).request == "patient"


async def test_a_new_epoch_knows_nothing_of_the_old_one(
    them: ScriptedOrchestrator, us: LeaderProcess, tmp_path: Path
) -> None:
    before = them.registered["all"]
    gate = tmp_path / "gate"
    await them.say("all", work("old", "monolithic", gate_at="2", gate=str(gate)))
    await them.hear(Progressed, lambda m: m.request == "old")
    await them.say("all", RegisterAgain())
    changed = await them.hear(StateChanged)
    gate.touch()
    again = them.registered["all"]
    assert again.incarnation == before.incarnation
    assert again.last_epoch == changed.epoch - 1
    await them.say("all", work("old", "monolithic"))  # the same attempt, in the new epoch
    assert (await them.hear(Finished)).epoch == changed.epoch
    assert not [m for _, m in them.heard if isinstance(m, Failed | Aborted | Finished)]


# ---------------------------------------------------------------- the end


async def test_it_finishes_what_it_has_before_it_leaves(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with leader(them.endpoint, roles=["monolithic", "encoder"], name="d") as us:
        await them.ready("d")
        await them.say("d", work("s", "encoder"))
        await them.hear(Staged)
        await them.say("d", work("r", "monolithic", gate_at="2", gate=str(gate)))
        await them.hear(Progressed, of=us.ready["name"])
        us.signal(signal.SIGTERM)
        await them.hear(StateChanged, lambda m: m.state == "draining")
        await them.say("d", work("late", "monolithic"))  # was under way
        await them.say("d", Drain())
        await them.say("d", Push(0, "s", 1, "encoder", 1, them.grant("s", "d", [0])))
        await them.hear(Delivered)
        gate.touch()
        for _ in range(2):
            finished = await them.hear(Finished, of="d")
            async with MediaClient(finished.media[0].endpoint or "") as client:
                await client.release(finished.media[0].id)
        await them.hear(Left, of="d")
        assert await us.ended() == 0
        assert "Traceback" not in us.stderr


async def test_a_second_sigterm_ends_it_at_once(them: ScriptedOrchestrator, tmp_path: Path) -> None:
    async with leader(them.endpoint, roles=["monolithic"], name="e") as us:
        await them.ready("e")
        await them.say("e", work("r", "monolithic", gate_at="2", gate=str(tmp_path / "never")))
        await them.hear(Progressed, of=us.ready["name"])
        us.signal(signal.SIGTERM)
        await them.hear(StateChanged, lambda m: m.state == "draining")
        us.signal(signal.SIGTERM)
        assert await us.ended() == 1
        assert "Traceback" not in us.stderr


async def test_no_rank_outlives_its_leader(them: ScriptedOrchestrator, tmp_path: Path) -> None:
    async with leader(them.endpoint, roles=["monolithic"], name="f") as us:
        await them.ready("f")
        await them.say("f", work("r", "monolithic", gate_at="2", gate=str(tmp_path / "never")))
        await them.hear(Progressed, of=us.ready["name"])
        us.signal(signal.SIGKILL)
        assert await us.ended() == -signal.SIGKILL
        for pid in us.pids:
            await gone(pid)


async def test_two_ranks_then_an_order_to_close(them: ScriptedOrchestrator, tmp_path: Path) -> None:
    async with leader(
        them.endpoint,
        roles=["decoder", "denoiser", "encoder"],
        name="g",
        ranks=2,
        media_store=str(tmp_path / "store"),
    ) as us:
        assert len((await them.ready("g")).ranks) == 2
        grant = them.grant("r", "g", [0])
        await them.say("g", work("r", "encoder", grant=grant))
        delivery = them.deliver(grant, await them.hear(Delivered))
        grant = them.grant("r", "g", [1])
        await them.say("g", work("r", "denoiser", delivery=delivery, grant=grant))
        delivery = them.deliver(grant, await them.hear(Delivered))
        await them.say("g", work("r", "decoder", delivery=delivery))
        (media,) = (await them.hear(Finished)).media  # of rank 0 only
        assert (tmp_path / "store" / (media.store_key or "")).stat().st_size == media.nbytes
        await them.say("g", Close("removed"))
        assert (await them.hear(Left)).reason == "removed"
        assert await us.ended() == 0


async def test_refused_is_one_clear_line(them: ScriptedOrchestrator) -> None:
    them.welcoming = False
    try:
        async with leader(them.endpoint, name="h", ready=False, **PLAIN) as us:
            await them.hear(Register, of="h")
            await them.say("h", Refused("the name h is taken by pid 7 on box"))
            assert await us.ended() == 1
            last = us.stderr.splitlines()[-1]
            assert last == "triptych: monolithic: the name h is taken by pid 7 on box"
    finally:
        them.welcoming = True


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("missing", "there is no model at missing"),
        ("broken", "raised RuntimeError: the weights do not fit"),
        ("crash", "exited with code 3"),
    ],
)
async def test_a_model_that_does_not_load_is_one_clear_line(model: str, line: str) -> None:
    async with leader("tcp://127.0.0.1:9", roles=["encoder"], model=model, ready=False) as us:
        assert await us.ended() == 1
        assert us.stderr.splitlines()[-1].startswith("triptych: encoder: ")
        assert us.stderr.splitlines()[-1].endswith(line)
        assert "Traceback" not in us.stderr


async def test_a_sigterm_while_it_loads_ends_it_at_once(tmp_path: Path) -> None:
    loads = tmp_path / "loads"
    model = f"endless:{loads}"
    async with leader("tcp://127.0.0.1:9", roles=["encoder"], model=model, ready=False) as us:
        async with asyncio.timeout(60):
            while not loads.exists():
                await asyncio.sleep(0.01)
        us.signal(signal.SIGTERM)
        assert await us.ended() == 0
        assert "Traceback" not in us.stderr


async def test_a_taken_endpoint_is_one_clear_line(them: ScriptedOrchestrator) -> None:
    taken = them.endpoint
    async with leader(them.endpoint, roles=["encoder"], endpoint=taken, ready=False) as us:
        assert await us.ended() == 1
        (line,) = us.stderr.splitlines()
        assert line.startswith(f"triptych: encoder: {taken} cannot be bound: ")


@pytest.mark.parametrize(
    ("module", "none_of"),
    [
        ("roles.leader.leader", {"torch", "diffusers", "transformers", "PIL", "av"}),
        ("roles.rank.worker", {"diffusers", "transformers"}),  # its program imports what it needs
    ],
)
async def test_a_process_imports_nothing_that_makes_its_start_slow(
    module: str, none_of: set[str]
) -> None:
    script = f"import sys, {module}; print(*sorted({none_of} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == ""


async def test_an_instance_with_another_cluster_s_key_ends_with_the_remedy(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    keys = make(tmp_path / "keys").folder
    async with leader(them.endpoint, ready=False, keys=str(keys), **PLAIN) as made:
        assert await made.ended() == 1
    last = made.stderr.splitlines()[-1]
    assert last.startswith(f"triptych: monolithic: the orchestrator at {them.endpoint} hangs up")
    assert "--keys (or TRIPTYCH_KEYS)" in last


async def test_an_instance_without_a_key_ends_before_it_loads_anything(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    async with leader(them.endpoint, roles=("encoder",), ready=False, keys=str(tmp_path)) as made:
        assert await made.ended() == 1
    [line] = made.stderr.splitlines()
    assert f"there is no cluster.key_secret in {tmp_path}" in line
