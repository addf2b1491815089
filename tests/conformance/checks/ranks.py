"""Whether two ranks on this machine that divide the forwards give what one gives."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

from roles.parallel import Parallel
from roles.rank.stepping import Stepper
from roles.rank.world import World
from roles.split.loading import load
from roles.split.parallel.context import why_not
from roles.split.program import Denoising
from tests.conformance.checks.batch import apart_of, numbers, tolerated
from tests.conformance.reasons import brief
from tests.conformance.subject import Subject
from tests.conformance.verdict import Ranks, rounded
from tests.support.divided_pipelines import Live
from tests.support.ranks import fork_ranks
from transfer.messages import Speed

TOLERANCE = 1e-4
NOTHING = "one sample in one branch, and "


def check(subject: Subject) -> Ranks:
    """`guidance=2` where there are two samples or branches, `ulysses=2` where there is a plan."""
    passage = subject.passage()
    found = Ranks("none")
    if passage.branches > 1 or passage.batch > 1:
        found = _guidance(subject)
    reason = no_plan(subject)
    if reason is None:
        found = _tokens(subject, found)
    elif found.holds == "none":
        found.why = found.why or NOTHING + reason
    return found


def no_plan(subject: Subject) -> str | None:
    """Why the tokens of its transformers cannot be divided in two; None if they can."""
    parts = subject.program(subject.looping).of_part("denoiser")  # type: ignore[attr-defined]
    reasons = [why_not(each, Speed(), Parallel(ulysses=2)) for each in parts.values()]
    return next((reason for reason in reasons if reason), None)


def _guidance(subject: Subject) -> Ranks:
    told = _told(subject, "guidance=2", lambda world: subject.program(subject.looping))
    if isinstance(told, str):
        return Ranks("no", f"guidance: {told}")
    if not told["divided"]:
        return Ranks("none", told["why"] or "its forwards run whole in each rank")
    if told["apart"] > tolerated(subject, TOLERANCE):
        return Ranks("no", f"guidance: two ranks are {rounded(told['apart'])} from what one gives")
    return Ranks("yes", guidance=rounded(told["apart"]))


def _tokens(subject: Subject, found: Ranks) -> Ranks:
    def divided(world: World) -> Any:
        speed = Speed("float32", context="ulysses=2")
        return load(subject.folder, (subject.looping,), "float32", "cpu", speed, world)

    told = _told(subject, "ulysses=2", divided)
    if isinstance(told, str):  # a role finds that out when it starts, and says so
        found.why = found.why or f"its tokens are not divided: {told}"
        return found
    found.tokens = rounded(told["apart"])
    if told["apart"] > tolerated(subject, TOLERANCE):
        why = f"tokens: two ranks are {found.tokens} from what one gives"
        return Ranks("no", why, found.guidance, found.tokens)
    return Ranks("yes", "", found.guidance, found.tokens) if found.holds != "no" else found


def _told(subject: Subject, parallel: str, program: Callable[[World], Any]) -> Any:
    """What the worse of two ranks found, or the sentence of the error that it met."""
    subject.asked(program=subject.program(subject.looping), call=subject.call())  # loads it here
    told = fork_ranks(lambda world: _rank(subject, world, program), parallel, 2, [])
    for rank in told:
        if rank is None:
            return "a rank died"
        if "error" in rank:
            return brief(f"{rank['error']}: {rank['message']}".splitlines()[0])
    return max(told, key=lambda rank: rank["apart"])


def _rank(subject: Subject, world: World, program: Callable[[World], Any]) -> dict[str, Any]:
    """In a process of its own: runs the request, and compares."""
    warnings = _Warnings()
    logging.getLogger("roles.split.denoising.together").addHandler(warnings)
    gathers = _counted(world)
    denoising = subject.asked(program(world), subject.call())
    try:
        run_divided(denoising, world)
    except Exception:
        traceback.print_exc()
        raise
    known = numbers(subject, subject.passage().result)
    return {
        "apart": apart_of(numbers(subject, denoising.result()), known),
        "divided": bool(gathers) and not warnings.told,
        "why": brief(warnings.told),
    }


def run_divided(denoising: Denoising, world: World) -> None:
    """As a rank does. Raises the request's error."""
    live = Live(denoising, exact=False)
    stepper = Stepper(lambda: None, 0.0, lambda: False, world=world)
    denoising.start()
    while not denoising.done:
        turn = stepper.take([live])
        if turn.errors[0] is not None:
            raise turn.errors[0]


def _counted(world: World) -> list[None]:
    """Grows with every part of a forward that comes from the other rank."""
    gathered: list[None] = []
    gather = world.gather

    def counting(part: Any) -> Any:
        gathered.append(None)
        return gather(part)

    world.gather = counting  # type: ignore[method-assign]
    return gathered


class _Warnings(logging.Handler):
    """Keeps the first one: forwards of some form are not divided any more."""

    told = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.told = self.told or record.getMessage()
