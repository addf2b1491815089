"""The desk, one rule after another."""

from typing import Any

from msgspec.structs import replace

from orchestrator.core.events import Cancel, Submit
from orchestrator.jobs.commands import (
    Answer,
    Conflict,
    Delete,
    Down,
    Forget,
    Full,
    Notify,
    Release,
    Store,
    Sweep,
    Unknown,
    Write,
)
from orchestrator.jobs.desk import LIFE
from orchestrator.jobs.entries import Accepted, Attempted, Ended, Forgotten, Kept
from orchestrator.jobs.events import JobAsked, Stored
from orchestrator.jobs.model import Job, StoredFile, VideoAsked
from tests.support.desk_bench import DeskBench
from tests.support.simulated_desk import TIMINGS, picture, spec
from transfer.made import ImageMade


def test_a_job_from_the_promise_to_its_end() -> None:
    bench = DeskBench()
    bench.ask("a")
    bench.queue("a-0")
    bench.run("a-0", step=3)
    assert (bench.job("a").status, bench.job("a").progress.step) == ("running", 3)
    bench.finish("a-0")
    assert bench.job("a").status == "running"
    bench.store()
    job = bench.job("a")
    assert (job.status, job.attempts, job.position) == ("completed", 1, None)
    assert [file.key for file in job.files] == ["state:a-0/1"]
    assert [type(entry) for entry in bench.journal] == [Accepted, Attempted, Ended]
    assert [release.media for release in bench.take(Release)] == [[picture("a-0", 1)]]
    names = [notify.event.name for notify in bench.take(Notify)]
    assert names == ["queued", "progress", "completed"]
    assert bench.desk.idle
    assert bench.desk.complaints() == []


def test_nobody_hears_of_a_job_before_it_is_written() -> None:
    bench = DeskBench()
    bench.automatic = False
    bench.ask("a")
    assert bench.answers() == []
    assert bench.submitted() == []
    assert bench.desk.books.find("a") is None
    assert bench.desk.books.page(10, None, None) == ([], False)
    bench.write(bench.take(Write)[0])
    (answer,) = bench.answers()
    assert isinstance(answer, Job)
    assert bench.submitted() == ["a-0"]


def test_nobody_hears_of_an_end_before_it_is_written() -> None:
    bench = DeskBench()
    bench.ask("a")
    bench.finish("a-0")
    bench.automatic = False
    bench.store()
    assert bench.job("a").status != "completed"
    assert bench.take(Release) == []
    bench.cancel("a")  # too late, and not known yet
    assert bench.take(Cancel) == []
    bench.take(Answer)
    bench.write(bench.take(Write)[0])
    (answer,) = bench.answers()
    assert answer.status == bench.job("a").status == "completed"


def test_positions_are_told_in_the_order_of_acceptance() -> None:
    bench = DeskBench(ahead=1)
    for job in "abc":
        bench.ask(job)
    assert [bench.job(job).position for job in "abc"] == [0, 1, 2]
    assert bench.submitted() == ["a-0"]
    bench.run("a-0")
    assert [bench.job(job).position for job in "abc"] == [None, 0, 1]
    assert bench.submitted() == ["b-0"]
    bench.cancel("b")
    assert bench.job("c").position == 0


def test_pages_are_newest_first_and_go_on_after_a_job() -> None:
    bench = DeskBench()
    for job in "abcde":
        bench.ask(job)
    bench.cancel("c")
    books = bench.desk.books

    def ids(limit: int, after: str | None, status: str | None = None) -> tuple[str, bool]:
        jobs, more = books.page(limit, after, status)  # type: ignore[arg-type]
        return "".join(job.id for job in jobs), more

    assert ids(2, None) == ("ed", True)
    assert ids(2, "d") == ("cb", True)
    assert ids(2, "b") == ("a", False)
    assert ids(9, None, "queued") == ("edba", False)
    assert ids(9, None, "cancelled") == ("c", False)


# ---------------------------------------------------------------- keys


def test_the_same_key_and_body_is_the_same_job() -> None:
    bench = DeskBench()
    bench.automatic = False
    bench.ask("a", key="k")
    bench.ask("b", key="k")  # while the first is still being written
    assert bench.answers() == []
    bench.write(bench.take(Write)[0])
    assert [answer.id for answer in bench.answers()] == ["a", "a"]
    bench.ask("c", key="k")
    assert [answer.id for answer in bench.answers()] == ["a"]


def test_the_same_key_with_another_body_is_a_conflict() -> None:
    bench = DeskBench()
    bench.ask("a", key="k", body=b"1")
    bench.answers()
    bench.ask("b", key="k", body=b"2")
    assert bench.answers() == [Conflict("a")]


def test_a_key_lives_as_long_as_its_job() -> None:
    bench = DeskBench(ttl_s=10.0)
    bench.ask("a", key="k")
    bench.cancel("a")
    bench.ask("b", key="k")
    assert bench.answers()[-1].id == "a"
    bench.later(11.0)
    bench.ask("c", key="k")
    assert bench.answers()[-1].id == "c"


# ---------------------------------------------------------------- bounds


def test_too_many_unfinished_jobs_are_refused() -> None:
    bench = DeskBench(unfinished=2)
    for job in "abc":
        bench.ask(job)
    assert [type(answer) for answer in bench.answers()] == [Job, Job, Full]
    bench.cancel("a")
    bench.ask("d")
    assert bench.answers()[-1].id == "d"


def test_only_so_many_requests_wait_in_the_core() -> None:
    bench = DeskBench(ahead=2)
    for job in "abcd":
        bench.ask(job)
    assert bench.submitted() == ["a-0", "b-0"]
    bench.run("a-0")
    assert bench.submitted() == ["c-0"]
    bench.finish("b-0")
    assert bench.submitted() == ["d-0"]


def test_a_core_that_refuses_is_asked_again_with_one_request_until_it_takes_one() -> None:
    bench = DeskBench(ahead=3, submit_again_s=1.0)
    for job in "abc":
        bench.ask(job)
    for request in bench.submitted():
        bench.reject(request)
    bench.later(0.5)
    assert bench.submitted() == []
    bench.later(0.6)
    assert bench.submitted() == ["a-0"]
    bench.reject("a-0")
    bench.later(1.1)
    assert bench.submitted() == ["a-0"]
    bench.queue("a-0")
    assert bench.submitted() == ["b-0", "c-0"]


def test_a_job_that_never_ends_fails_in_the_end() -> None:
    bench = DeskBench(wait_s=50.0)
    bench.ask("a")
    bench.later(51.0)
    error = bench.job("a").error
    assert error is not None
    assert error.kind == "deadline"
    assert [cancel.request for cancel in bench.take(Cancel)] == ["a-0"]


# ---------------------------------------------------------------- the journal


def test_a_promise_that_cannot_be_written_is_refused_and_taken_back() -> None:
    bench = DeskBench(write_again_s=1.0)
    bench.automatic = False
    bench.ask("a", key="k")
    bench.fail(bench.take(Write)[0])
    assert bench.answers() == [Down("no space")]
    bench.ask("b", key="k")  # nothing is tried while it is known to fail
    assert bench.answers() == [Down("no space")]
    assert bench.take(Write) == []
    bench.later(1.1)
    (again,) = bench.take(Write)
    assert again.entry == Forgotten("a")  # it may have landed after all
    bench.write(again)
    bench.automatic = True
    bench.ask("c", key="k")
    assert bench.answers()[0].id == "c"


def test_an_end_that_cannot_be_written_is_written_later() -> None:
    bench = DeskBench(write_again_s=1.0)
    bench.ask("a")
    bench.finish("a-0")
    bench.automatic = False
    bench.store()
    (write,) = bench.take(Write)
    for pause in (1.0, 2.0, 4.0):
        bench.fail(write)
        bench.later(pause - 0.1)
        assert bench.take(Write) == []
        bench.later(0.2)
        (write,) = bench.take(Write)
    assert bench.take(Release) == []
    bench.write(write)
    assert bench.job("a").status == "completed"


# ---------------------------------------------------------------- several pictures


def test_each_picture_is_kept_as_it_is_stored() -> None:
    bench = DeskBench()
    bench.ask("a", count=2)
    assert bench.submitted() == ["a-0", "a-1"]
    bench.finish("a-1")
    bench.store()
    kept = bench.journal[-1]
    assert isinstance(kept, Kept)
    assert kept.part == 1
    assert bench.take(Release)[0].media == [picture("a-1", 1)]
    assert bench.job("a").progress.stage == "queued"  # the slowest counts
    bench.finish("a-0")
    bench.store()
    assert [file.key for file in bench.job("a").files] == ["state:a-0/1", "state:a-1/1"]


def test_the_first_failure_ends_the_job_and_nothing_of_the_others_stays() -> None:
    bench = DeskBench()
    bench.ask("a", count=4)
    bench.finish("a-0")
    bench.store()
    bench.finish("a-1")
    (storing,) = bench.take(Store)
    bench.take(Release)
    bench.break_down("a-2")
    assert bench.job("a").status == "failed"
    assert [cancel.request for cancel in bench.take(Cancel)] == ["a-3"]
    assert [file.key for file in bench.take(Delete)[0].files] == ["state:a-0/1"]
    late = StoredFile("state:late", ImageMade(), "image/png", 1)
    bench.feed(Stored(storing.request, [late]))
    assert bench.take(Delete)[0].files == [late]
    assert bench.take(Release)[0].media == [picture("a-1", 1)]
    bench.finish("a-3")  # it crossed the cancel
    assert bench.take(Release)[0].media == [picture("a-3", 1)]
    assert bench.desk.idle
    assert bench.desk.complaints() == []


# ---------------------------------------------------------------- cancelling


def test_cancel_at_every_state_and_twice() -> None:
    bench = DeskBench(ahead=2)
    bench.cancel("nobody")
    assert bench.answers() == [Unknown()]
    for job in "abc":
        bench.ask(job)
    bench.run("a-0")
    bench.finish("b-0")
    bench.answers()
    for job in "abc":  # running, storing, waiting in the core
        bench.cancel(job)
        bench.cancel(job)
    assert [answer.status for answer in bench.answers()] == ["cancelled"] * 6
    assert bench.take(Cancel)[0].request == "a-0"
    names = [n.event.name for n in bench.take(Notify) if n.event.name == "cancelled"]
    assert len(names) == 3


def test_cancel_before_the_promise_is_written() -> None:
    bench = DeskBench()
    bench.automatic = False
    bench.ask("a")
    bench.cancel("a")
    (promise,) = bench.take(Write)
    bench.automatic = True
    bench.write(promise)
    assert [answer.status for answer in bench.answers()] == ["queued", "cancelled"]
    assert bench.submitted() == []


# ---------------------------------------------------------------- files


def test_a_file_that_is_gone_is_made_again_but_not_for_ever() -> None:
    bench = DeskBench(runs=3)
    bench.ask("a")
    for attempt in (1, 2, 3):
        (submit,) = bench.take(Submit)
        assert submit.attempts == attempt - 1
        bench.finish("a-0", attempt)
        bench.store_fails(gone=True)
    job = bench.job("a")
    assert (job.status, job.attempts) == ("failed", 3)
    assert job.error is not None
    assert job.error.kind == "instance_lost"
    assert bench.take(Submit) == []


def test_a_storage_that_fails_is_tried_again_and_then_the_job_fails() -> None:
    bench = DeskBench(stores=3, store_again_s=1.0)
    bench.ask("a")
    bench.finish("a-0")
    bench.store_fails(gone=False)
    bench.later(0.9)
    assert bench.take(Store) == []
    bench.later(0.2)
    bench.store_fails(gone=False)
    assert bench.job("a").status == "running"
    bench.later(2.1)
    bench.store_fails(gone=False)
    job = bench.job("a")
    assert job.status == "failed"
    assert job.error is not None
    assert "could not be stored: scripted" in job.error.message
    assert bench.take(Release)[0].media == [picture("a-0", 1)]


# ---------------------------------------------------------------- retention


def test_finished_jobs_are_forgotten_by_age() -> None:
    bench = DeskBench(ttl_s=10.0)
    bench.complete("a")
    bench.later(5.0)
    bench.complete("b")
    bench.later(5.1)
    assert bench.desk.books.find("a") is None
    assert bench.job("b").status == "completed"
    assert [forget.job for forget in bench.take(Forget)] == ["a"]
    assert bench.take(Delete)[0].files[0].key == "state:a-0/1"
    assert bench.journal[-1] == Forgotten("a")


def test_finished_jobs_are_forgotten_by_bytes_and_by_count_but_never_the_latest() -> None:
    bench = DeskBench(nbytes=1000, finished=3)
    for job, nbytes in (("a", 400), ("b", 400), ("c", 400)):
        bench.complete(job, nbytes)
    assert [forget.job for forget in bench.take(Forget)] == ["a"]
    bench.complete("d", 5000)
    assert [forget.job for forget in bench.take(Forget)] == ["b", "c"]
    for job in "efg":
        bench.complete(job, 1)
    assert [forget.job for forget in bench.take(Forget)] == ["d"]
    bench.complete("h", 1)
    assert [forget.job for forget in bench.take(Forget)] == ["e"]


def test_a_finished_job_is_forgotten_when_somebody_asks() -> None:
    bench = DeskBench()
    bench.complete("a")
    bench.complete("b")
    bench.take(Answer)
    bench.automatic = False
    bench.forget("a")
    bench.forget("a")
    assert bench.answers() == []
    assert bench.job("a").status == "completed"  # until it is written
    (write,) = bench.take(Write)
    bench.write(write)
    assert bench.answers() == [Unknown(), Unknown()]
    assert bench.desk.books.find("a") is None
    assert bench.take(Delete)[0].files[0].key == "state:a-0/1"
    assert bench.job("b").status == "completed"
    assert bench.desk.complaints() == []


def test_a_job_that_is_not_over_is_not_forgotten() -> None:
    bench = DeskBench()
    bench.ask("a")
    bench.take(Answer)
    bench.forget("a")
    bench.forget("ghost")
    running, unknown = bench.answers()
    assert (running.id, unknown) == ("a", Unknown())
    bench.cancel("a")
    bench.break_down("a-0")
    bench.forget("a")
    assert bench.desk.books.find("a") is None


def test_who_wants_a_job_forgotten_is_told_of_a_journal_that_fails() -> None:
    bench = DeskBench()
    bench.complete("a")
    bench.take(Answer)
    bench.automatic = False
    bench.forget("a")
    bench.fail(bench.take(Write)[0])
    assert bench.answers() == [Down("no space")]
    bench.later(60.0)
    bench.write(bench.take(Write)[0])
    assert bench.desk.books.find("a") is None
    assert bench.answers() == []


def test_videos_are_listed_by_themselves_and_from_either_end() -> None:
    bench = DeskBench()
    asked = VideoAsked("a ball", "films", "64x48", "1", "{}")
    film = replace(spec(), described=replace(spec().described, kind="video", video=asked))
    for job in "abcde":
        bench.feed(JobAsked(7, job, film if job in "bde" else spec()))
    page = bench.desk.books.page

    def ids(**arguments: Any) -> tuple[str, bool]:
        jobs, more = page(
            arguments.pop("limit", 9), arguments.pop("after", None), None, **arguments
        )
        return "".join(job.id for job in jobs), more

    assert ids() == ("edcba", False)
    assert ids(videos=True) == ("edb", False)
    assert ids(videos=True, ascending=True, limit=2) == ("bd", True)
    assert ids(videos=True, ascending=True, after="b") == ("de", False)
    assert ids(videos=True, after="d") == ("b", False)
    again = DeskBench(bench.journal, life=1)
    assert again.job("b").described.video == asked


# ---------------------------------------------------------------- another life


def test_another_life_goes_on_where_the_last_one_stopped() -> None:
    bench = DeskBench()
    bench.ask("a", count=2, key="k")
    bench.run("a-0", attempt=4)
    bench.finish("a-1")
    bench.store()
    bench.complete("b")
    again = DeskBench(bench.journal, life=1)
    assert again.take(Sweep)[0].keep == ["state:a-1/1", "state:b-0/1"]
    (submit,) = again.take(Submit)
    assert (submit.request, submit.attempts) == ("a-0", 4)
    assert again.job("b") == bench.job("b")
    again.ask("c", key="k")
    assert again.answers()[0].id == "a"
    again.finish("a-0", 5)
    again.store()
    job = again.job("a")
    assert (job.status, job.attempts) == ("completed", 5)
    assert [file.key for file in job.files] == ["state:a-0/5", "state:a-1/1"]


def test_a_job_whose_pictures_are_all_kept_only_ends() -> None:
    kept = Kept("a", 0, 1, TIMINGS, [StoredFile("state:x", ImageMade(), "image/png", 1)])
    bench = DeskBench([Accepted("a", 1, 1.0, spec()), kept], life=1)
    assert bench.submitted() == []
    assert bench.job("a").files == kept.files


def test_numbers_of_events_grow_over_lives() -> None:
    bench = DeskBench()
    bench.ask("a")
    bench.run("a-0")
    assert [notify.event.number for notify in bench.take(Notify)] == [1, 2]
    again = DeskBench(bench.journal, life=3)
    assert again.take(Notify)[0].event.number == 3 * LIFE + 1


def test_numbers_of_jobs_go_on_after_the_highest() -> None:
    bench = DeskBench([Accepted("a", 41, 1.0, spec())])
    bench.ask("b")
    promise = bench.journal[-1]
    assert isinstance(promise, Accepted)
    assert promise.number == 42


def test_entries_about_unknown_jobs_make_no_job() -> None:
    bench = DeskBench([Attempted("ghost", 0, 1), Forgotten("other")])
    assert bench.desk.books.page(10, None, None) == ([], False)
    assert bench.submitted() == []
