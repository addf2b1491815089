"""The branches of guidance that a pipeline asks for one after the other, waiting together.

Many pipelines call the transformer for the prompt, then for the negative prompt, and only then look
at the results. A request's `Branches` answer a call with results that nobody has computed yet
(`roles.split.denoising.unready`), so that the pipeline goes on to its next call; at the first use
of any of them, all calls wait at the door at once.

A call is computed at once, as the plain pipeline does it, unless

- it is understood (`batching.key_of`), and holds nothing but tensors and plain values, whose
  contents can be kept for the case that the pipeline changes them before the call has run;
- a forward of its form has run, so that the structure, shapes and dtypes of the result are known;
- the pipeline has lately had calls of one key waiting together; now and then it is tried again.

And everything that waits is computed first, before the pipeline does anything else with the
transformer, and at the end of each step and of the pipeline, wanted or not: so the forwards are
those of the plain pipeline, and in its order but for those that share. Only what waits when a
pipeline fails or is cancelled is dropped.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from roles.split.denoising.batching import key_of, like, tensors
from roles.split.denoising.unready import Unready, unready
from roles.split.program import TransformerCall

MAX_WAITING = 8  # calls of one request; more are computed before the next is taken
PATIENCE = 2  # so often in vain, and a pipeline's calls are computed at once
TRY_EVERY = 9  # calls; odd, so that it is not always the last branch of a step
MAX_OUTLINES = 1024


@dataclass(frozen=True)
class Outline:
    """What a forward gives, without the numbers: `shape` has tensors on the meta device."""

    shape: Any
    devices: list[torch.device]

    def fits(self, output: Any) -> bool:
        """Whether a forward gave just this."""
        try:
            pairs = list(zip(tensors(self.shape), tensors(output), self.devices, strict=True))
        except ValueError:
            return False
        return all(
            (known.shape, known.dtype, device) == (given.shape, given.dtype, given.device)
            for known, given, device in pairs
        )


class Outlines:
    """The outlines of a program's forwards, by form (`batching.key_of`)."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Outline | None] = OrderedDict()

    def get(self, form: str) -> Outline | None:
        return self._known.get(form)

    def learn(self, form: str, output: Any) -> None:
        """From the first forward of a form. What is in there beside tensors is not understood."""
        if form in self._known:
            return
        try:
            known = Outline(_outline(output), [each.device for each in tensors(output)])
        except TypeError:
            known = None
        self._known[form] = known
        if len(self._known) > MAX_OUTLINES:
            self._known.popitem(last=False)

    def distrust(self, form: str) -> None:
        """Forwards of this form do not always give the same shapes: they are computed at once."""
        self._known[form] = None


Run = Callable[[Sequence[TransformerCall]], Sequence[Any]]


def _each_alone(calls: Sequence[TransformerCall]) -> list[Any]:
    return [call.run() for call in calls]


class Branches:
    """Those of one request. `run` waits at the door: one result for each call; `run_here` computes
    them past it. Without `outlines` every call is computed at once."""

    def __init__(self, run: Run, outlines: Outlines | None, run_here: Run = _each_alone) -> None:
        self._run = run
        self._run_here = run_here
        self._outlines = outlines
        self._waiting: list[_Waiting] = []
        self._vain = 0
        self._skipped = 0

    def ask(self, call: TransformerCall) -> Any:
        """What the forward gives, now or later."""
        if self._outlines is None:
            return self._run([call])[0]
        given = next(iter(unready((call.args, call.kwargs))), None)
        if len(self._waiting) == MAX_WAITING or given is not None:
            self.settle()
        key = key_of(call)
        form = (key or "").partition(":")[0]
        outline = self._outlines.get(form)
        if outline is None or not _can_be_kept(call) or not self._may_pay():
            return self._at_once(call, form)
        assert key is not None
        waiting = _Waiting(call, key, outline, _Kept(call))
        self._waiting.append(waiting)
        return waiting.result(self.settle)

    def settle(self, here: bool = False) -> None:
        """Computes all that waits, and fills it in. `here`: each alone, past the door."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self._note_habit([each.key for each in waiting])
        calls = [each.kept.call() for each in waiting]
        outputs = self._run_here(calls) if here else self._run(calls)
        for each, output in zip(waiting, outputs, strict=True):
            self._check(each, output)
        for each, output in zip(waiting, outputs, strict=True):
            each.fill(output)

    def drop(self) -> None:
        """Forgets what waits: the pipeline has failed, or was cancelled."""
        self._waiting.clear()

    def _at_once(self, call: TransformerCall, form: str) -> Any:
        self.settle()
        output = self._run([call])[0]
        if form and self._outlines is not None:
            self._outlines.learn(form, output)
        return output

    def _may_pay(self) -> bool:
        if self._vain < PATIENCE:
            return True
        self._skipped += 1
        return self._skipped % TRY_EVERY == 0

    def _note_habit(self, keys: list[str]) -> None:
        self._vain = 0 if len(set(keys)) < len(keys) else self._vain + 1

    def _check(self, waiting: "_Waiting", output: Any) -> None:
        if waiting.outline.fits(output):
            return
        assert self._outlines is not None
        self._outlines.distrust(waiting.key.partition(":")[0])
        kind = type(waiting.call.module).__name__
        raise RuntimeError(
            f"a forward of {kind} gave other shapes than those of the same form before; its calls "
            "are computed at once from now on, so the request can be tried again"
        )


@dataclass
class _Waiting:
    """One call, and what stands for its result."""

    call: TransformerCall
    key: str
    outline: Outline
    kept: "_Kept"
    leaves: list[Unready] = field(default_factory=list)
    derived: list[tuple[Unready, Callable[[], torch.Tensor]]] = field(default_factory=list)

    def result(self, settle: Callable[[bool], None]) -> Any:
        """The output, of unready tensors."""
        note = lambda made, make: self.derived.append((made, make))  # noqa: E731
        shapes = zip(tensors(self.outline.shape), self.outline.devices, strict=True)
        self.leaves = [Unready(shape, device, settle, note) for shape, device in shapes]
        return _refilled(self.outline.shape, iter(self.leaves))

    def fill(self, output: Any) -> None:
        for leaf, value in zip(self.leaves, tensors(output), strict=True):
            leaf.fill(value)
        for made, make in self.derived:
            made.fill(make())


# ---------------------------------------------------------------- arguments


class _Kept:
    """A call as it was made, whatever the pipeline writes into its arguments before it runs.

    Tensors are copied, and the counters of their versions tell which have changed; lists are
    compared. A call whose arguments are as they were runs with the very objects.
    """

    def __init__(self, call: TransformerCall) -> None:
        self._call = call
        self._args = _with_own_lists(call.args)
        self._kwargs = _with_own_lists(dict(call.kwargs))
        given = tensors((self._args, self._kwargs))
        self._tensors = [(each, each._version, each.clone()) for each in given]

    def call(self) -> TransformerCall:
        changed = {id(it): copy for it, version, copy in self._tensors if it._version != version}
        same = _same((self._args, self._kwargs), (self._call.args, dict(self._call.kwargs)))
        if same and not changed:
            return self._call
        args, kwargs = _replaced(self._args, changed), _replaced(self._kwargs, changed)
        return replace(self._call, args=args, kwargs=kwargs)


def _can_be_kept(call: TransformerCall) -> bool:
    """Whether a copy of the arguments can be made, and nothing but they decides on the result."""
    if any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        return False
    return all(map(_is_understood, (*call.args, *call.kwargs.values())))


def _is_understood(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_inference()
    if isinstance(value, dict):  # pipelines put other things in between two calls
        return not value
    if isinstance(value, list | tuple):
        return all(map(_is_understood, value))
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def _with_own_lists(value: Any) -> Any:
    return _replaced(value, {})


def _replaced(value: Any, others: dict[int, torch.Tensor]) -> Any:
    """The same values in containers of their own, but for the tensors in `others`, by id."""
    if type(value) in (list, tuple):
        return type(value)(_replaced(each, others) for each in value)
    if type(value) is dict:
        return {name: _replaced(each, others) for name, each in value.items()}
    return others.get(id(value), value)


def _same(one: Any, other: Any) -> bool:
    """Whether nested containers hold the very same values."""
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if type(one) is dict:
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return one is other


# ---------------------------------------------------------------- results


def _outline(output: Any) -> Any:
    """The same structure, of tensors without numbers. Raises TypeError for anything else."""
    if type(output) is torch.Tensor:
        return torch.empty_like(output, device="meta")
    if output is None:
        return None
    if isinstance(output, dict):  # diffusers' outputs too
        return like(output, {name: _outline(value) for name, value in output.items()})
    if type(output) in (list, tuple):
        return type(output)(map(_outline, output))
    raise TypeError(f"a result with a {type(output).__name__}")


def _refilled(outline: Any, leaves: Iterator[Unready]) -> Any:
    if isinstance(outline, torch.Tensor):
        return next(leaves)
    if isinstance(outline, dict):
        return like(outline, {name: _refilled(value, leaves) for name, value in outline.items()})
    if type(outline) in (list, tuple):
        return type(outline)(_refilled(value, leaves) for value in outline)
    return outline
