"""Previews of jobs: asked for durably, shown once, and never kept."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.core.events import Submit
from orchestrator.jobs.commands import Notify, Release
from orchestrator.jobs.entries import Accepted
from orchestrator.jobs.followers import KEPT, News
from orchestrator.jobs.model import JobEvent, Shown
from orchestrator.jobs.previews import Previews
from tests.orchestrator.jobs.test_jobs_service import room
from tests.support.desk_bench import DeskBench
from tests.support.picture_dealer import pixels
from tests.support.scripted_dealer import REPORT
from tests.support.simulated_desk import look, picture, spec
from transfer.errors import MediaError
from transfer.messages import Accepted as PayloadAccepted
from transfer.messages import Delivered, Media, Progressed, Work

# ---------------------------------------------------------------- the desk decides


def shown(bench: DeskBench) -> list[tuple[int, int, str]]:
    events = [notify.event for notify in bench.take(Notify)]
    return [
        (event.shown.index, event.shown.number, event.shown.media.id)
        for event in events
        if event.shown is not None
    ]


def released(bench: DeskBench) -> list[str]:
    return [media.id for release in bench.take(Release) for media in release.media]


def test_a_new_preview_takes_the_place_of_the_one_before() -> None:
    bench = DeskBench()
    bench.ask("a", count=2, previews=3)
    assert [submit.previews for submit in bench.take(Submit)] == [3, 3]
    bench.run("a-0")
    bench.run("a-1")
    bench.preview("a-0", 1)
    bench.preview("a-1", 2)
    assert shown(bench) == [(0, 0, "a-0~1"), (1, 0, "a-1~2")]
    assert released(bench) == []
    bench.preview("a-0", 3)
    assert shown(bench) == [(0, 1, "a-0~3")]
    assert released(bench) == ["a-0~1"]
    bench.finish("a-0")
    assert released(bench) == ["a-0~3"]
    bench.cancel("a")
    assert released(bench) == ["a-1~2"]


def test_numbers_of_events_count_previews_too() -> None:
    bench = DeskBench()
    bench.ask("a", previews=1)
    bench.run("a-0", step=1)
    bench.preview("a-0", 1)
    bench.run("a-0", step=2)
    events = [notify.event for notify in bench.take(Notify)]
    names = ["queued", "progress", "preview", "progress"]
    assert [(event.number, event.name) for event in events] == list(enumerate(names, 1))
    assert events[2].job.progress.step == 1


def test_what_nobody_waits_for_any_more_is_let_go() -> None:
    bench = DeskBench()
    bench.ask("a", previews=1)
    bench.run("a-0")
    bench.finish("a-0")
    bench.take(Notify)
    bench.preview("a-0", 1)  # it was on its way
    assert (shown(bench), released(bench)) == ([], ["a-0~1"])


def test_a_picture_that_is_made_again_has_no_previews_again() -> None:
    bench = DeskBench()
    bench.ask("a", previews=2)
    bench.take(Submit)
    bench.run("a-0")
    bench.preview("a-0", 1)
    bench.finish("a-0")
    bench.store_fails(gone=True)
    assert [submit.previews for submit in bench.take(Submit)] == [0]


def test_how_many_are_wanted_is_written_and_no_picture_is() -> None:
    bench = DeskBench()
    bench.ask("a", previews=2)
    bench.run("a-0")
    bench.preview("a-0", 1)
    assert isinstance(bench.journal[0], Accepted)
    assert "a-0~1" not in repr(bench.journal)
    again = DeskBench(bench.journal, life=1)
    assert [submit.previews for submit in again.take(Submit)] == [2]


# ---------------------------------------------------------------- who follows


def test_the_latest_preview_of_each_picture_is_kept_however_much_progress_there_is() -> None:
    bench = DeskBench()
    bench.ask("a", count=2, previews=3)
    (first, *_) = [notify.event for notify in bench.take(Notify)]
    news = News()
    media = [look("a-0", number) for number in range(4)]
    for number, (index, each) in enumerate([(0, media[0]), (1, media[1]), (0, media[2])], 1):
        news.add(JobEvent(number, "preview", first.job, Shown(index, 0, each)))
    for number in range(4, 4 + KEPT + 5):
        news.add(JobEvent(number, "progress", first.job))
    kept = [event.number for event in news.after(0)]
    assert kept[:2] == [2, 3]
    assert len(kept) == KEPT + 2
    assert kept == sorted(kept)
    assert [event.number for event in news.after(2)][:1] == [3]


class Files:
    def __init__(self) -> None:
        self.released: list[str] = []

    async def chunks(self, media: Media) -> AsyncGenerator[bytes, None]:
        for piece in (b"a", b"b"):
            yield piece

    def release(self, media: Media) -> None:
        self.released.append(media.id)


async def test_who_reads_a_preview_reads_it_to_its_end() -> None:
    files, media = Files(), look("a-0", 1)
    previews = Previews(files.chunks, files.release)
    previews.show(media)
    async with contextlib.aclosing(previews.read(media)) as reading:
        assert await anext(reading) == b"a"
        assert previews.let_go(media)
        assert files.released == []
        with pytest.raises(MediaError):
            await anext(previews.read(media))
        assert [piece async for piece in reading] == [b"b"]
    assert files.released == [media.id]
    assert len(previews) == 0
    assert not previews.let_go(picture("a-0", 1))


async def test_two_readers_and_one_that_stops_in_the_middle() -> None:
    files, media = Files(), look("a-0", 1)
    previews = Previews(files.chunks, files.release)
    previews.show(media)
    one, other = previews.read(media), previews.read(media)
    await anext(one)
    await anext(other)
    previews.let_go(media)
    await one.aclose()
    assert files.released == []
    await other.aclose()
    assert files.released == [media.id]


async def test_an_event_shows_what_a_decoder_made(tmp_path: Path) -> None:
    async with room(tmp_path) as it:
        denoiser = it.roles.denoiser
        denoiser.idle = True
        job = await it.jobs.submit(spec(seed=5, previews=1))
        work = await denoiser.until(Work, lambda m: m.preview_of is None)
        assert work.previews == 1
        about = (denoiser.epoch, work.request, work.attempt, "denoiser")
        assert work.delivery is not None
        await denoiser.say(PayloadAccepted(*about, work.delivery.generation))
        await denoiser.say(Progressed(*about, 11, 20))
        peek = await denoiser.until(Work, lambda m: m.preview_of is not None)
        told = (denoiser.epoch, peek.request, peek.attempt, "denoiser")
        await denoiser.say(Delivered(*told, peek.grant.generation, 10, 1, REPORT))
        events = it.jobs.events(job.id, 0)
        async for event in events:
            if event.shown is not None:
                break
        assert event.shown is not None
        content = [chunk async for chunk in it.jobs.preview(event.shown.media)]
        assert b"".join(content) == pixels(5)
        assert (event.shown.index, event.shown.number) == (0, 0)
        assert event.job.progress.step == 11
        await it.jobs.cancel(job.id)
        assert [each.name async for each in events][-1] == "cancelled"
        while it.roles.decoder.media.held:
            await asyncio.sleep(0.005)
        with pytest.raises(MediaError):
            await anext(it.jobs.preview(event.shown.media))
