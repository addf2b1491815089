"""What the front door can ask, and what it gets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from orchestrator.control import Control, Outcome, configure
from orchestrator.core.commands import Resolve
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Busy, Duplicate, NotReady, Progress, RequestFailed, Service
from tests.support.bench import INPUTS, MODEL
from tests.support.scripted_dealer import REPORT, Dealer, dealers
from transfer.messages import SPLIT_ROUTE, Abort, Close, Drain, Finished, Media, Progressed, Work


class Cluster:
    """A service in front of three scripted instances."""

    def __init__(self, service: Service, made: list[Dealer]) -> None:
        self.service = service
        self.encoder, self.denoiser, self.decoder = made


@contextlib.asynccontextmanager
async def _control(**options: object) -> AsyncIterator[Control]:
    control = Control(configure(OrchestratorOptions(**options)))  # type: ignore[arg-type]
    control.bind("tcp://127.0.0.1:0")
    task = asyncio.create_task(control.run())
    try:
        yield control
    finally:
        task.cancel()
        await asyncio.wait([task])
        control.close()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with _control(max_queue=0) as control, dealers(control.endpoint, *SPLIT_ROUTE) as made:
        yield Cluster(Service(control, 60.0), made)


async def test_generate_gives_media_and_timings(cluster: Cluster) -> None:
    done = await cluster.service.generate(INPUTS, request_id="a")
    assert done.attempts == 1
    assert done.timings.encoder_s == 0.001
    assert cluster.service.models() == [MODEL]
    assert cluster.service.usual_model() == cluster.service.model(MODEL.name) == MODEL
    assert cluster.service.missing() == []
    assert cluster.service.healthy()
    assert cluster.service.counters()["requests_completed"] == 1


async def test_not_ready_names_the_roles_that_are_missing() -> None:
    async with _control() as control:
        service = Service(control, 60.0)
        with pytest.raises(NotReady) as refused:
            await service.generate(INPUTS, request_id="a")
        assert refused.value.missing == service.missing() == list(SPLIT_ROUTE)
        assert service.models() == []
        assert service.usual_model() is None


async def test_busy_when_too_many_wait(cluster: Cluster) -> None:
    cluster.encoder.idle = True
    asking = [
        asyncio.create_task(cluster.service.generate(INPUTS, request_id=id)) for id in ("a", "b")
    ]
    await cluster.encoder.until(Work, lambda work: work.request == "b")
    with pytest.raises(Busy) as refused:
        await cluster.service.generate(INPUTS, request_id="c")
    assert refused.value.retry_after_s >= 1
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)


async def test_duplicate_id_is_refused_and_the_first_goes_on(cluster: Cluster) -> None:
    first = asyncio.create_task(cluster.service.generate(INPUTS, request_id="a"))
    await asyncio.sleep(0)
    with pytest.raises(Duplicate):
        await cluster.service.generate(INPUTS, request_id="a")
    assert (await first).media


async def test_cancelling_the_coroutine_cancels_the_request(cluster: Cluster) -> None:
    cluster.encoder.idle = True
    asking = asyncio.create_task(cluster.service.generate(INPUTS, request_id="a"))
    await cluster.encoder.until(Work)
    asking.cancel()
    await cluster.encoder.until(Abort)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert cluster.service.cluster().requests.cancelled == 1


async def test_deadline_is_an_error_of_the_request(cluster: Cluster) -> None:
    cluster.encoder.idle = True
    with pytest.raises(RequestFailed) as failed:
        await cluster.service.generate(INPUTS, request_id="a", timeout_s=0.05)
    assert failed.value.error.kind == "deadline"
    await cluster.encoder.until(Abort)


async def test_progress_until_the_end(cluster: Cluster) -> None:
    cluster.denoiser.idle = True
    seen: list[Progress] = []

    async def follow() -> None:
        async for progress in cluster.service.progress("a"):
            seen.append(progress)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    asking = asyncio.create_task(cluster.service.generate(INPUTS, request_id="a"))
    work = await cluster.denoiser.until(Work)
    for step in (1, 2):
        epoch = cluster.denoiser.epoch
        await cluster.denoiser.say(Progressed(epoch, "a", work.attempt, "denoiser", step, 2))
    cluster.denoiser.idle = False
    await cluster.denoiser.work(work)
    await asking
    await following
    places = [(progress.stage, progress.step) for progress in seen]
    assert places == [
        ("queued", 0),
        ("encoder", 0),
        ("denoiser", 0),
        ("denoiser", 1),
        ("denoiser", 2),
        ("decoder", 0),
    ]


async def test_drain_and_remove(cluster: Cluster) -> None:
    cluster.service.drain("encoder-0")
    await cluster.encoder.until(Drain)
    cluster.service.remove("decoder-0")
    await cluster.decoder.until(Close)
    assert cluster.service.missing() == ["encoder", "decoder"]
    for ask in (cluster.service.drain, cluster.service.remove):
        with pytest.raises(KeyError):
            ask("nobody")


class Bin:
    """Where files go that nobody wants."""

    def __init__(self) -> None:
        self.media: list[Media] = []
        self.full = asyncio.Event()

    async def release(self, media: Media) -> None:
        self.media.append(media)
        self.full.set()


async def test_a_file_that_crosses_the_cancel_is_released() -> None:
    async with _control() as control, dealers(control.endpoint, *SPLIT_ROUTE) as made:
        rubbish = Bin()
        service = Service(control, 60.0, rubbish.release)
        decoder = made[2]
        decoder.idle = True
        asking = asyncio.create_task(service.generate(INPUTS, request_id="a"))
        work = await decoder.until(Work)
        asking.cancel()
        await asyncio.wait([asking])
        about = (decoder.epoch, "a", work.attempt, "decoder")
        await decoder.say(Finished(*about, [decoder.picture], REPORT))
        async with asyncio.timeout(10):
            await rubbish.full.wait()
        assert rubbish.media == [decoder.picture]


async def test_a_result_that_comes_with_the_cancel_is_released() -> None:
    async with _control() as control, dealers(control.endpoint, *SPLIT_ROUTE):
        rubbish = Bin()
        service = Service(control, 60.0, rubbish.release)
        hear = control.listener

        def cancelled_at_the_end(outcome: Outcome) -> None:
            hear(outcome)
            if isinstance(outcome, Resolve):
                asking.cancel()

        control.listener = cancelled_at_the_end
        asking = asyncio.create_task(service.generate(INPUTS, request_id="a"))
        await asyncio.wait([asking])
        assert asking.cancelled()
        async with asyncio.timeout(10):
            await rubbish.full.wait()
        assert len(rubbish.media) == 1


async def test_a_lost_instance_cannot_be_drained(cluster: Cluster) -> None:
    with pytest.raises(KeyError):
        cluster.service.drain("nobody")
