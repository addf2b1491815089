"""SIGKILL of a real orchestrator, at every state of a job: nothing is lost, nothing comes twice."""

import asyncio
import sys
from pathlib import Path

import httpx

from tests.support.house import House, house
from tests.support.picture_dealer import pixels
from transfer.messages import Work


async def _all_are_completed(house: House, jobs: dict[int, str]) -> None:
    """Under the same ids and keys, with the right pictures, now and in the next life."""
    for seed, id in jobs.items():
        assert await house.ask(seed) == id
        job = await house.over(id)
        assert job["status"] == "completed", job
        assert await house.content(id) == pixels(seed)
    before = [await house.job(id) for id in jobs.values()]
    assert len(house.files) == len(jobs)
    await house.process.restart()
    assert [await house.job(id) for id in jobs.values()] == before
    for seed, id in jobs.items():
        assert await house.ask(seed) == id
        assert await house.content(id) == pixels(seed)


async def test_killed_when_a_job_was_accepted(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.roles.encoder.idle = True
        jobs = {7: await it.ask(7)}
        await it.process.kill()
        it.roles.encoder.idle = False
        await it.process.start()
        await _all_are_completed(it, jobs)


async def test_killed_while_jobs_wait(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.roles.encoder.idle = True  # it takes two at a time
        jobs = {seed: await it.ask(seed) for seed in range(5)}
        assert [(await it.job(id))["position"] for id in jobs.values()] == [None, None, 0, 1, 2]
        await it.process.kill()
        it.roles.encoder.idle = False
        await it.process.start()
        await _all_are_completed(it, jobs)


async def test_killed_while_a_job_is_computed(tmp_path: Path, journal_url: str) -> None:
    async with house(tmp_path, journal=journal_url) as it:
        it.roles.denoiser.idle = True
        jobs = {7: await it.ask(7)}
        await it.roles.denoiser.until(Work)
        await it.stage(jobs[7], "denoiser")
        await it.written(2)  # that it was accepted, and that it was attempted
        await it.process.kill()
        it.roles.denoiser.idle = False
        await it.process.start()
        await _all_are_completed(it, jobs)
        assert (await it.job(jobs[7]))["attempts"] == 2  # the first is fenced by its number


async def test_killed_when_the_picture_was_made_but_not_stored(tmp_path: Path) -> None:
    async with house(tmp_path, serve=False) as it:
        jobs = {7: await it.ask(7)}
        await it.roles.decoder.until(Work)
        await it.stage(jobs[7], "decoder")
        assert it.files == []
        await it.process.kill()
        it.roles.decoder.serve()
        await it.process.start()
        await _all_are_completed(it, jobs)


async def test_told_to_end_while_a_job_is_computed(tmp_path: Path) -> None:
    """It does not wait for what its next life will compute, and says so to who follows the job."""
    async with house(tmp_path) as it:
        it.roles.denoiser.idle = True
        jobs = {7: await it.ask(7)}
        await it.stage(jobs[7], "denoiser")
        async with it.client.stream("GET", f"/v1/jobs/{jobs[7]}/events") as reply:
            lines = reply.aiter_lines()
            while not (await anext(lines)).startswith("data:"):
                pass
            assert await it.process.end() == 0
            rest = [line async for line in lines]  # it ends as a reply should
        assert not any('"status":"completed"' in line for line in rest)
        it.roles.denoiser.idle = False
        await it.process.start()
        await _all_are_completed(it, jobs)


async def test_killed_again_and_again_under_load(tmp_path: Path, journal_url: str) -> None:
    """Clients that come back with their keys get one job for each, whatever they missed."""
    async with house(tmp_path, journal=journal_url) as it:
        jobs: dict[int, str] = {}
        asking = [asyncio.create_task(_persist(it, seed, jobs)) for seed in range(40)]
        for count in (5, 15, 25):
            while len(set(it.roles.decoder.made)) < count:
                await asyncio.sleep(0.001)
            await it.process.restart()
        await asyncio.gather(*asking)
        assert len(set(jobs.values())) == 40
        await _all_are_completed(it, jobs)
        listed = (await it.client.get("/v1/jobs", params={"limit": 100})).json()["data"]
        assert sorted(job["id"] for job in listed) == sorted(jobs.values())


async def _persist(house: House, seed: int, jobs: dict[int, str]) -> None:
    while True:
        try:
            jobs[seed] = await house.ask(seed)
            return
        except (httpx.TransportError, AssertionError):
            await asyncio.sleep(0.02)


async def test_a_state_folder_that_is_taken_ends_with_one_line(tmp_path: Path) -> None:
    async with house(tmp_path):
        script = "import sys; from orchestrator.options import OrchestratorOptions as O; "
        script += "from orchestrator.server import serve; sys.exit(serve(O(state_dir=sys.argv[1])))"
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(tmp_path)), stderr=asyncio.subprocess.PIPE
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert said.decode().count("\n") == 1
        assert "in use by the orchestrator with pid" in said.decode()
