"""Jobs in an event loop: a real control channel, journal and storage, and scripted roles."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.control import Control, configure
from orchestrator.http.media.gateway import MediaGateway
from orchestrator.jobs.folder import StateFolder
from orchestrator.jobs.journal import Journal
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.media import MediaKeeper
from orchestrator.jobs.model import Idempotency, Job, JournalDown, KeyConflict
from orchestrator.jobs.service import Jobs
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Busy, Service
from tests.support.bench import INPUTS
from tests.support.picture_dealer import Trio, pixels, trio
from tests.support.simulated_desk import spec
from transfer.errors import MediaError
from transfer.messages import Abort, Work

DEADLINE_S = 30.0


class Room:
    """Jobs, and the roles that do them."""

    def __init__(self, jobs: Jobs, service: Service, roles: Trio, state: Path) -> None:
        self.jobs, self.service, self.roles, self.state = jobs, service, roles, state

    async def read(self, job: Job) -> bytes:
        return b"".join([chunk async for chunk in self.jobs.content(job.files[0])])


@contextlib.asynccontextmanager
async def room(
    state: Path, serve: bool = True, store: str | None = None, **limits: float
) -> AsyncIterator[Room]:
    control = Control(configure(OrchestratorOptions()))
    control.bind("tcp://127.0.0.1:0")
    gateway = MediaGateway(store)
    with StateFolder(str(state)) as folder:
        keeper = MediaKeeper(folder.media, gateway, store)
        service = Service(control, 60.0, gateway.release)
        jobs = Jobs(control, Journal(folder.journal), keeper, Limits(**limits))  # type: ignore[arg-type]
        await jobs.start()
        loops = [asyncio.create_task(control.run()), asyncio.create_task(jobs.run())]
        try:
            async with trio(control.endpoint, serve) as roles, asyncio.timeout(DEADLINE_S):
                yield Room(jobs, service, roles, state)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)
            await jobs.close()
            await gateway.close()
            control.close()


async def test_a_job_is_stored_and_its_decoder_let_go_of_it(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        job = await it.jobs.wait((await it.jobs.submit(spec(seed=5))).id)
        assert (job.status, job.attempts, len(job.files)) == ("completed", 1, 1)
        assert job.timings is not None
        assert await it.read(job) == pixels(5)
        path = it.jobs.local_path(job.files[0])
        assert path is not None
        assert path.read_bytes() == pixels(5)
        while it.roles.decoder.media.held:
            await asyncio.sleep(0.005)
        assert it.jobs.counters["jobs_completed"] == 1
        assert it.jobs.counters["journal_writes"] >= 2


async def test_several_pictures_come_in_order(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        job = await it.jobs.wait((await it.jobs.submit(spec(3, seed=5))).id)
        contents = [b"".join([c async for c in it.jobs.content(f)]) for f in job.files]
        assert contents == [pixels(5), pixels(6), pixels(7)]


async def test_requests_that_are_no_jobs_run_beside_them(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        job = await it.jobs.submit(spec())
        done = await it.service.generate(INPUTS, request_id="sync")
        assert done.media
        assert (await it.jobs.wait(job.id)).status == "completed"


async def test_a_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        it.roles.decoder.loses = lambda work: work.attempt == 1
        job = await it.jobs.wait((await it.jobs.submit(spec(seed=5))).id)
        assert (job.status, job.attempts) == ("completed", 2)
        assert await it.read(job) == pixels(5)
        assert it.jobs.counters["jobs_files_lost"] == 1


async def test_a_storage_that_cannot_be_written_fails_the_job_with_the_cause(
    tmp_path: Path,
) -> None:
    async with room(tmp_path, store_again_s=0.01) as it:
        media = tmp_path / "media"
        media.rmdir()
        media.write_text("in the way")
        job = await it.jobs.wait((await it.jobs.submit(spec())).id)
        assert job.status == "failed"
        assert job.error is not None
        assert "could not be stored: Not a directory" in job.error.message
        assert (await it.service.generate(INPUTS, request_id="sync")).media


async def test_jobs_wait_for_roles_that_are_not_there(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        it.service.remove("denoiser-0")
        job = await it.jobs.submit(spec())
        assert (job.status, job.position) == ("queued", 0)
        # the scripted denoiser is told to register again by its next heartbeat
        assert (await it.jobs.wait(job.id)).status == "completed"


async def test_cancel_stops_whoever_works_on_it(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        it.roles.encoder.idle = True
        job = await it.jobs.submit(spec())
        await it.roles.encoder.until(Work)
        assert (await it.jobs.cancel(job.id)).status == "cancelled"
        await it.roles.encoder.until(Abort, lambda abort: abort.request == f"{job.id}-0")
        again = await it.jobs.cancel(job.id)
        assert again == await it.jobs.find(job.id)
        with pytest.raises(KeyError):
            await it.jobs.cancel("nobody")


async def test_nothing_is_kept_of_a_job_that_is_forgotten(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        done = await it.jobs.wait((await it.jobs.submit(spec(seed=5))).id)
        path = it.jobs.local_path(done.files[0])
        assert path is not None
        assert path.exists()
        await it.jobs.forget(done.id)
        assert await it.jobs.find(done.id) is None
        while path.exists():
            await asyncio.sleep(0.005)
        with pytest.raises(KeyError):
            await it.jobs.forget(done.id)


async def test_keys_find_their_jobs(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        key, other = Idempotency("k", b"1"), Idempotency("k", b"2")
        assert await it.jobs.recall(key) is None
        first, second = await asyncio.gather(
            it.jobs.submit(spec(), key), it.jobs.submit(spec(), key)
        )
        assert first.id == second.id
        recalled = await it.jobs.recall(key)
        assert recalled is not None
        assert recalled.id == first.id
        with pytest.raises(KeyConflict):
            await it.jobs.submit(spec(), other)
        with pytest.raises(KeyConflict):
            await it.jobs.recall(other)


async def test_events_go_on_after_a_number_and_end_with_the_job(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        it.roles.denoiser.idle = True
        job = await it.jobs.submit(spec())
        seen = []
        async for event in it.jobs.events(job.id, 0):
            seen.append(event)
            if event.job.progress.stage == "denoiser":
                break
        assert [event.number for event in seen] == list(range(1, len(seen) + 1))
        following = [asyncio.create_task(_follow(it.jobs, job.id, after)) for after in (0, 2, 99)]
        await asyncio.sleep(0)
        work = await it.roles.denoiser.until(Work)
        await it.roles.denoiser.work(work)
        everything, rest, only_end = await asyncio.gather(*following)
        assert everything[: len(seen)] == [event.number for event in seen]
        assert rest == [number for number in everything if number > 2]
        assert everything == sorted(set(everything))
        assert only_end == everything[-1:]
        assert await _follow(it.jobs, job.id, everything[-1]) == everything[-1:]
        with pytest.raises(KeyError):
            await anext(it.jobs.events("nobody", 0))


async def _follow(jobs: Jobs, id: str, after: int) -> list[int]:
    return [event.number async for event in jobs.events(id, after)]


async def test_too_many_jobs_are_refused_with_a_time(tmp_path: Path) -> None:
    async with room(tmp_path, unfinished=1) as it:
        it.roles.encoder.idle = True
        await it.jobs.submit(spec())
        with pytest.raises(Busy) as refused:
            await it.jobs.submit(spec())
        assert refused.value.retry_after_s >= 1.0


async def test_a_journal_that_cannot_be_written_refuses_jobs_and_recovers(tmp_path: Path) -> None:
    async with room(tmp_path, write_again_s=0.01) as it:
        running = await it.jobs.submit(spec())
        journal = it.jobs._journal
        commit, journal._engine = journal._engine, _NoEngine()  # type: ignore[assignment]
        with pytest.raises(JournalDown, match="no space left"):
            await it.jobs.submit(spec())
        assert (await it.service.generate(INPUTS, request_id="sync")).media
        journal._engine = commit
        assert (await it.jobs.wait(running.id)).status == "completed"
        while True:
            try:
                job = await it.jobs.submit(spec())
                break
            except JournalDown:
                await asyncio.sleep(0.01)
        assert (await it.jobs.wait(job.id)).status == "completed"


class _NoEngine:
    def begin(self) -> None:
        raise OSError("no space left")

    def dispose(self) -> None:
        pass


async def test_files_of_the_media_store_stay_where_they_are(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    async with room(tmp_path / "state", store=str(shared)) as it:
        it.roles.decoder.store = shared
        job = await it.jobs.wait((await it.jobs.submit(spec(seed=5))).id)
        assert [file.key for file in job.files] == [f"store:{job.id}-0"]
        assert await it.read(job) == pixels(5)
        assert (shared / f"{job.id}-0").read_bytes() == pixels(5)
        (shared / f"{job.id}-0").unlink()
        with pytest.raises(MediaError):
            await it.read(job)
