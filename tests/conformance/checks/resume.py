"""Whether a request goes on from its middle step in another program, to the same bits."""

from tests.conformance import modular
from tests.conformance.reasons import brief
from tests.conformance.subject import Subject, crossed
from tests.conformance.verdict import Resume
from tests.support.portable import checkpoint_at, equal, run_to_end


def check(subject: Subject) -> Resume:
    passage = subject.passage()
    if passage.unsplittable:
        return Resume("none", "what runs whole begins anew")
    call = subject.call()
    left = subject.program("denoiser").denoise(call, passage.records)
    left.start()
    middle = max(1, _half(left.steps, subject))
    checkpoint = checkpoint_at(left, middle)
    at = f"{middle} of {left.steps}"
    left.cancel()
    if checkpoint is None:
        return Resume("none", "its loop has no step to stop at")
    if checkpoint.payload is None:
        return Resume("none", brief((checkpoint.why_not or "").partition(": ")[2]))
    again = subject.fresh("denoiser").denoise(call, crossed(checkpoint.payload)[0])
    again.start()
    run_to_end(again)
    if equal(crossed(again.result())[0], crossed(passage.result)[0]):
        return Resume("yes", at=at)
    return Resume("no", "it goes on to other bits", at)


def _half(steps: int, subject: Subject) -> int:
    """What a loop of blocks leaves to its next turn is known after its second: of three steps the
    second is the middle one."""
    return (steps + modular.is_modular(subject.kind)) // 2
