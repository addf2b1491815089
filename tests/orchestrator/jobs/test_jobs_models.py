"""Jobs of several models: each keeps its own, and none waits for those of another."""

from orchestrator.core.commands import Resolve
from orchestrator.core.events import Submit
from orchestrator.jobs.commands import Full, Store
from orchestrator.jobs.model import Job
from tests.support.desk_bench import DeskBench
from transfer.messages import ErrorInfo


def submitted(bench: DeskBench) -> list[tuple[str, str]]:
    return [(submit.request, submit.model) for submit in bench.take(Submit)]


def test_the_core_is_told_the_model_of_each() -> None:
    bench = DeskBench()
    bench.ask("a", model="flux")
    bench.ask("b", model="wan")
    bench.ask("c")
    assert submitted(bench) == [("a-0", "flux"), ("b-0", "wan"), ("c-0", "")]


def test_a_restart_keeps_the_model_of_those_that_are_not_over() -> None:
    bench = DeskBench()
    bench.ask("a", 2, model="flux")
    bench.run("a-0")
    again = DeskBench(bench.journal, life=1)
    assert submitted(again) == [("a-0", "flux"), ("a-1", "flux")]
    assert again.job("a").described.model == "flux"


def test_and_of_those_that_are() -> None:
    bench = DeskBench()
    bench.ask("a", model="flux")
    bench.finish("a-0")
    bench.store()
    assert DeskBench(bench.journal, life=1).job("a").described.model == "flux"


def test_jobs_whose_roles_have_not_come_hold_up_nobody_else() -> None:
    bench = DeskBench(ahead=2, submit_again_s=0.25)
    for number in range(5):
        bench.ask(f"w{number}", model="wan")
    assert submitted(bench) == [("w0-0", "wan"), ("w1-0", "wan")]
    bench.reject("w0-0")
    bench.reject("w1-0")
    bench.ask("f", model="flux")
    assert submitted(bench) == [("f-0", "flux")]
    bench.run("f-0")
    bench.finish("f-0")
    assert bench.take(Store)
    assert submitted(bench) == []
    bench.later(0.25)
    assert submitted(bench) == [("w0-0", "wan")]  # one at a time, until one is taken
    bench.run("w0-0")
    assert submitted(bench) == [("w1-0", "wan"), ("w2-0", "wan")]


def test_as_many_of_each_wait_inside_the_core() -> None:
    bench = DeskBench(ahead=1)
    for name in ("a", "b"):
        bench.ask(name, model="flux")
        bench.ask(f"w{name}", model="wan")
    assert submitted(bench) == [("a-0", "flux"), ("wa-0", "wan")]
    bench.run("wa-0")
    assert submitted(bench) == [("wb-0", "wan")]


def test_the_position_is_that_among_jobs_of_the_model() -> None:
    bench = DeskBench()
    for name in ("a", "b", "c"):
        bench.ask(name, model="wan")
    bench.ask("d", model="flux")
    assert [bench.job(name).position for name in "abcd"] == [0, 1, 2, 0]
    bench.run("a-0")
    assert [bench.job(name).position for name in "abcd"] == [None, 0, 1, 0]


def test_nothing_is_left_when_all_is_over() -> None:
    bench = DeskBench()
    for name, model in (("a", "flux"), ("b", "wan")):
        bench.ask(name, model=model)
        bench.finish(f"{name}-0")
        bench.store()
    bench.ask("c", model="wan")
    bench.cancel("c")
    bench.feed(Resolve("c-0", ErrorInfo("cancelled", "scripted")))
    assert bench.desk.idle
    assert bench.desk.complaints() == []


def test_a_flood_of_one_turns_no_other_away() -> None:
    bench = DeskBench(unfinished=2)
    for number in range(3):
        bench.ask(f"w{number}", model="wan")
    assert [type(answer) for answer in bench.answers()] == [Job, Job, Full]
    bench.ask("f", model="flux")
    assert bench.answers()[-1].id == "f"


def test_when_there_is_room_again_is_told_by_the_pace_of_that_model() -> None:
    bench = DeskBench(unfinished=4)
    for number in range(3):
        bench.ask(f"f{number}", model="flux")
    for number in range(4):
        bench.ask(f"w{number}", model="wan")
    for job in ("w0", "w1"):
        bench.later(10.0)
        bench.cancel(job)
    for job in ("f0", "f1"):
        bench.later(2.0)
        bench.cancel(job)
    bench.answers()
    for job, model in (("w4", "wan"), ("w5", "wan"), ("w6", "wan")):
        bench.ask(job, model=model)
    refused = bench.answers()[-1]
    assert isinstance(refused, Full)
    assert refused.retry_after_s == 10.0


def test_a_restart_counts_what_each_has_unfinished() -> None:
    bench = DeskBench()
    for number in range(2):
        bench.ask(f"w{number}", model="wan")
    again = DeskBench(bench.journal, life=1, unfinished=2)
    again.ask("w2", model="wan")
    again.ask("f", model="flux")
    assert [type(answer) for answer in again.answers()] == [Full, Job]
    for job in ("w0", "w1", "f"):
        again.cancel(job)
    for submit in again.take(Submit):
        again.reject(submit.request)
    assert len(again.desk.unfinished) == 0
