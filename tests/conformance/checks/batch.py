"""Whether the forwards of two different requests run as one, as an engine does it."""

from collections.abc import Sequence
from typing import Any

import torch

from roles.split.batching import Form, Unmergeable, key_of, tensors
from roles.split.program import Call, TransformerCall
from roles.split.together import Shared, Together
from tests.conformance.subject import SEED, Passage, Subject
from tests.conformance.verdict import Batch, rounded
from tests.support.batching import Asked, Denoisers
from tests.support.splitting import arrays

TOLERANCE = 1e-3  # of the largest value: rounding of a few steps is far below, a mistake far above
OTHERS = ("a boat", "two cats")  # short: tiny models read few tokens


def check(subject: Subject) -> Batch:
    """Two requests, with other texts and other seeds, one of them a step ahead."""
    found = Batch("none")
    for words in _texts(subject):
        found = _together(subject, words)
        if found.holds != "none":
            found.alike = found.holds == "yes" and words.get("prompt", "a boat") not in OTHERS
            break
    if found.holds == "none" and subject.case.alone:
        found.why = subject.case.alone
    return found


def _texts(subject: Subject) -> list[dict[str, str]]:
    """What the second request says instead: something of another length, then of the same one."""
    prompt = subject.case.arguments().get("prompt")
    if not isinstance(prompt, str):
        return [{}]
    other = next(each for each in OTHERS if len(each) != len(prompt))
    return [{"prompt": other}, {"prompt": prompt[::-1]}]


def _together(subject: Subject, words: dict[str, str]) -> Batch:
    calls = [subject.call(), subject.call(SEED + 1, **words)]
    program = subject.program(subject.looping)
    asked = [Asked(call, subject.asked(program, call)) for call in calls]
    room, noting = Denoisers(asked, max_batch=2), Noting(asked)
    room._stepper._together = noting
    room.run()
    if not noting.shared:
        return Batch("none", noting.why or "their calls differ")
    alone = [subject.passage(), _alone(subject, calls[1])]
    apart = max(
        apart_of(numbers(subject, each.denoising.result()), numbers(subject, one.result))
        for each, one in zip(asked, alone, strict=True)
    )
    found = Batch(
        "yes" if apart <= TOLERANCE else "no",
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

    def run(self, calls: Sequence[TransformerCall], key: str) -> Shared:
        names = {call.name for call in calls}
        owners = {self._owner(call) for call in calls}
        self._explain(calls[0])
        told = super().run(calls, key)
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
        if others and not self.why and key_of(call) != key_of(others[0]):
            self.why = why_apart(call, others[0])


def why_apart(one: TransformerCall, other: TransformerCall) -> str:
    """What keeps two calls from running as one."""
    try:
        forms = Form(one), Form(other)
    except Unmergeable as reason:
        return str(reason)
    if one.name != other.name:
        return f"one calls {one.name}, the other {other.name}"
    for name in forms[0].named:
        told = [_described(form.named.get(name)) for form in forms]
        if told[0] != told[1]:
            return f"{name} is {told[0]} in one, {told[1]} in the other"
    return "values that have to be equal are not"


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(list(value.shape))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__


def _alone(subject: Subject, call: Call) -> Passage:
    return subject.through(call, whole=subject.looping == "monolithic")


def numbers(subject: Subject, result: Any) -> list[torch.Tensor]:
    if subject.looping == "monolithic":
        return [torch.from_numpy(each.copy()).double() for each in arrays(result)]
    found = [each for decode in result["decodes"] for each in tensors(decode[1:3])]
    return [each.double() for each in found if each.is_floating_point()]


def apart_of(made: list[torch.Tensor], known: list[torch.Tensor]) -> float:
    pairs = list(zip(made, known, strict=True))
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)
