"""Whether the forwards of two different requests run as one, as an engine does it."""

from collections.abc import Sequence
from typing import Any

import torch

from roles.split.denoising.batching import Form, Unmergeable, key_of
from roles.split.denoising.together import Shared, Together
from roles.split.program import BadInput, Call, TransformerCall
from tests.conformance import payloads
from tests.conformance.subject import SEED, Passage, Subject
from tests.conformance.verdict import Batch, rounded
from tests.support.batching import Asked, Denoisers
from tests.support.splitting import arrays

LEVEL = 1.01 / 255  # what whole pipelines make is rounded to levels already
TOLERANCE = 1e-3  # of the largest value: rounding of a few steps is far below, a mistake far above
OTHERS = ("a boat", "two cats")  # short: tiny models read few tokens


def check(subject: Subject) -> Batch:
    """Two requests, with other texts and other seeds, one of them a step ahead."""
    found = Batch("none")
    for words in _texts(subject):
        try:
            found = _together(subject, words)
        except BadInput:
            if not words:
                raise
            continue
        if found.holds != "none":
            found.alike = found.holds == "yes" and words.get("prompt", OTHERS[0]) not in OTHERS
            break
    if found.holds == "none" and subject.case.alone:
        found.why = subject.case.alone
    return found


def _texts(subject: Subject) -> list[dict[str, str]]:
    """What the second request says instead: something of another length, then of the same one,
    then nothing else, for pipelines that do not read just anything."""
    prompt = subject.case.arguments().get("prompt")
    if not isinstance(prompt, str):
        return [{}]
    other = next(each for each in OTHERS if len(each) != len(prompt))
    return [{"prompt": other}, {"prompt": prompt[::-1]}, {}]


def _together(subject: Subject, words: dict[str, str]) -> Batch:
    calls = [subject.call(), subject.call(SEED + 1, **words)]
    program = subject.program(subject.looping)
    asked = [Asked(call, subject.asked(program, call)) for call in calls]
    room, noting = Denoisers(asked, max_batch=2), Noting(asked)
    room._stepper._together = noting
    try:
        room.run()
    except AssertionError:
        if not noting.apart:
            raise
        return Batch("none", "together they are not what they are alone, so each runs alone")
    if not noting.shared:
        return Batch("none", noting.why or "its loop is too short here for two to meet in it")
    alone = [subject.passage(), _alone(subject, calls[1])]
    apart = max(
        apart_of(numbers(subject, each.denoising.result()), numbers(subject, one.result))
        for each, one in zip(asked, alone, strict=True)
    )
    found = Batch(
        "yes" if apart <= tolerated(subject, TOLERANCE) else "no",
        shared=sorted(noting.shared),
        single=sorted(noting.single - noting.shared),
        most=noting.most,
        apart=rounded(apart),
    )
    if found.holds == "no":
        found.why = f"together they are {found.apart} from what they are alone"
    return found


class Noting(Together):
    """Notes which components' calls of two requests ran as one, and why others did not."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        super().__init__()
        self._asked = asked
        self.shared: set[str] = set()
        self.single: set[str] = set()
        self.most = 1
        self.why = ""
        self.apart = False  # a trial has failed

    def run(self, calls: Sequence[TransformerCall], key: str) -> Shared:
        names = {call.name for call in calls}
        owners = {self._owner(call) for call in calls}
        self._explain(calls[0])
        told = super().run(calls, key)
        self.apart = self.apart or told.most == 1
        if len(owners) > 1 and told.size == len(calls):
            self.shared |= names
            self.most = max(self.most, told.size)
        else:
            self.single |= names
        return told

    def _owner(self, call: TransformerCall) -> Any:
        return next(each.key for each in self._asked if call in each.denoising.pending)

    def _explain(self, call: TransformerCall) -> None:
        """Why this call cannot share with what the other request waits for."""
        pending = [each.denoising.pending for each in self._asked]
        others = [other for calls in pending if call not in calls for other in calls]
        if others and not self.why:
            key = key_of(call)
            if key is None or key != key_of(others[0]):
                self.why = why_apart(call, others[0])


def why_apart(one: TransformerCall, other: TransformerCall) -> str:
    """What keeps two calls from running as one."""
    try:
        forms = Form(one), Form(other)
        if one.name != other.name:
            return f"one calls {one.name}, the other {other.name}"
        for name in forms[0].named:
            told = [_described(form.named.get(name)) for form in forms]
            if told[0] != told[1]:
                return f"{name} is {told[0]} in one, {told[1]} in the other"
        named = forms[0].named
        unequal = [name for name in named if len({form.values(name) for form in forms}) > 1]
    except Unmergeable as reason:
        return str(reason)
    return f"{', '.join(unequal)} would have to be equal"


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(list(value.shape))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__


def _alone(subject: Subject, call: Call) -> Passage:
    return subject.through(call, whole=subject.looping == "monolithic")


def tolerated(subject: Subject, rounding: float) -> float:
    """How far results may be apart, relative."""
    return max(rounding, LEVEL) if subject.looping == "monolithic" else rounding


def numbers(subject: Subject, result: Any) -> list[torch.Tensor]:
    if subject.looping == "monolithic":
        return [torch.from_numpy(each.copy()) for each in arrays(result)]
    return payloads.numbers(result)


def apart_of(made: list[torch.Tensor], known: list[torch.Tensor]) -> float:
    pairs = list(zip(made, known, strict=True))
    return max((_relative(one, other) for one, other in pairs), default=0.0)


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """To the largest value; of pixels, to the largest that there could be."""
    if not other.numel():
        return 0.0
    most = 255.0 if other.dtype == torch.uint8 else other.double().abs().max().clamp_min(1e-12)
    return float((one.double() - other.double()).abs().max() / most)
