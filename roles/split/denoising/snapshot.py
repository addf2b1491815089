"""A request in the middle of its denoising loop, as data.

At the end of a step a request is the tensors of the loop, the state of its timestep schedulers and
guiders, of its random generators, and what its encoders gave. All of it is plain values and
tensors, so that it can cross to another process. What is anything else is `NotPortable`: such a
request is what its forwards gave (`roles.split.denoising.answers`), if that is known.
"""

import copy
from collections.abc import Collection
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from roles.split.denoising.answers import Answers
from roles.split.denoising.forward import Forward, Outputs
from roles.split.denoising.loop import NotPortable, loop_of
from roles.split.face import Face
from roles.split.program import Checkpoint
from roles.split.randomness import GlobalRandomness
from roles.split.view import Pipeline, stateful

# of a scheduler: what it was made from, and its methods, which are watched
# (`roles.split.decoding.clean`)
_OURS = ("_internal_dict", "step", "set_timesteps")
_PLAIN = (type(None), bool, int, float, str)
_VALUES = (torch.dtype, torch.device, torch.Size, np.generic)
# what a loop may read besides: it keeps nothing from step to step that is not known otherwise
_HARMLESS = (Face, type, ModuleType, BuiltinFunctionType, range, slice)


class Snapshots:
    """Takes one request's state at the ends of its steps, and puts it in place again.

    `pipeline` is the shared one, with whose own schedulers the request began; `kept` is what its
    encoders gave. A snapshot is a plain tree:

    - step: how many steps are complete
    - tensors: what the pipeline's callback takes back, `latents` and perhaps others, by name
    - generator, randomness: the states of the request's own generator, and of the global ones
    - parts: by name of a scheduler or guider, the attributes in which it is not as it was made
    - outputs: the shapes of what the forwards gave
    """

    def __init__(
        self,
        pipeline: Pipeline,
        generator: torch.Generator,
        randomness: GlobalRandomness,
        kept: list[Any],
        carried: dict[str, Any] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._generator = generator
        self._randomness = randomness
        self._kept = containers(kept)
        self._carried = carried or {}
        self._versions = [(each, each._version) for each in _tensors(kept)]

    def take(
        self, view: Pipeline, frame: FrameType, step: int, given: dict[str, Any], outputs: Outputs
    ) -> Checkpoint:
        """The state now, copied: at the end of a step, called within its callback.

        `frame` is that of the pipeline's `__call__`, `given` what the callback was given.
        """
        try:
            self._check(view, frame)
            if not outputs.crosses:
                raise NotPortable("its model gives more than plain values and tensors")
            snapshot = {
                "step": step,
                "tensors": {name: own(value, name) for name, value in given.items()},
                "generator": self._generator.get_state(),
                "randomness": self._randomness.now(),
                "parts": states_of(self._pipeline, view),
                "outputs": outputs.tree(),
            }
        except NotPortable as reason:
            return Checkpoint(step, None, f"{type(self._pipeline).__name__}: {reason}")
        return Checkpoint(step, {"kept": self._kept, "snapshot": snapshot} | self._carried)

    def replayed(self, step: int, answers: Answers) -> Checkpoint:
        """The request as what its encoders and all its forwards gave so far: whoever has that runs
        its pipeline to where it is now, in next to no time. For loops whose state is not seen."""
        try:
            self._check_kept()
            given = answers.tree()
        except NotPortable as reason:
            return Checkpoint(step, None, f"{type(self._pipeline).__name__}: {reason}")
        return Checkpoint(step, {"kept": self._kept, "answers": given} | self._carried)

    def forward(self, snapshot: dict[str, Any]) -> Forward:
        """The way to the step at which a snapshot was taken."""
        outputs = Outputs.of(snapshot["outputs"])
        return Forward(outputs, snapshot["step"], lambda view: self._put(view, snapshot))

    def _put(self, view: Pipeline, snapshot: dict[str, Any]) -> dict[str, torch.Tensor]:
        put_states(self._pipeline, view, snapshot["parts"])
        self._generator.set_state(snapshot["generator"])
        self._randomness.set(snapshot["randomness"])
        return dict(snapshot["tensors"])

    def _check_kept(self) -> None:
        if any(each._version != version for each, version in self._versions):
            raise NotPortable("it changes what its encoders gave")

    def _check(self, view: Pipeline, frame: FrameType) -> None:
        """Raises NotPortable if there is more to the state than a snapshot has."""
        kind: type = type(view)
        loop = loop_of(kind)
        self._check_kept()
        local = frame.f_locals
        if local.get("self") is not view:
            raise NotPortable("its loop is not in its __call__")
        for name in sorted(loop.doubtful):
            if local.get(name) is not None:
                raise NotPortable(f"its loop carries {name} from step to step")
        known = {id(view), id(self._generator), *(id(part) for _, part in stateful(view))}
        for name in loop.read & local.keys():
            if found := strange(local[name], known):
                raise NotPortable(f"its loop uses {name}, with a {found}")


def states_of(pipeline: Pipeline, view: Pipeline) -> dict[str, dict[str, Any]]:
    """The attributes in which a view's schedulers and guiders are not as those of the shared
    pipeline. Raises NotPortable."""
    shared = dict(stateful(pipeline))
    return {name: _changed(part, shared[name], name) for name, part in stateful(view)}


def state_of(part: Any) -> dict[str, Any]:
    """All attributes of a scheduler. Raises NotPortable."""
    name = type(part).__name__
    return {k: own(v, f"{name}.{k}") for k, v in vars(part).items() if k not in _OURS}


def put_states(pipeline: Pipeline, view: Pipeline, states: dict[str, dict[str, Any]]) -> None:
    """Makes a view's schedulers and guiders what `states_of` told of, in whichever program."""
    shared = dict(stateful(pipeline))
    for name, part in stateful(view):
        ours = {key: vars(part)[key] for key in _OURS if key in vars(part)}
        state = {**copy.deepcopy(vars(shared[name])), **states[name]}
        vars(part).clear()
        vars(part).update(state | ours)


def own(value: Any, where: str) -> Any:
    """A copy of plain values and tensors that nobody else changes. Raises NotPortable."""
    if type(value) in _PLAIN or isinstance(value, _VALUES):
        return value
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return value.detach().clone()
    if type(value) is np.ndarray:
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(own(each, where) for each in value)
    if type(value) is dict and all(type(key) in _PLAIN for key in value):
        return {key: own(each, where) for key, each in value.items()}
    raise NotPortable(f"{where} is a {type(value).__name__}")


def _changed(part: Any, shared: Any, name: str) -> dict[str, Any]:
    """The attributes in which a request's scheduler is not as the shared one."""
    before = vars(shared)
    return {
        key: own(value, f"{name}.{key}")
        for key, value in vars(part).items()
        if key not in _OURS and not (key in before and _same(value, before[key]))
    }


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    return one is other or (isinstance(one, _PLAIN + _VALUES) and bool(one == other))


def strange(value: Any, known: Collection[int]) -> str | None:
    """The class of something that may keep a state of its own, and is not `known` by its id; None
    if there is nothing such."""
    if isinstance(value, list | tuple | set | frozenset):
        return next((found for each in value if (found := strange(each, known))), None)
    if isinstance(value, dict):
        return strange(list(value.values()), known)
    harmless = (*_PLAIN, *_VALUES, *_HARMLESS, torch.Tensor, np.ndarray)
    if id(value) in known or isinstance(value, harmless):
        return None
    if isinstance(value, FunctionType) and value.__closure__ is None:
        return None
    return type(value).__name__


def containers(value: Any) -> Any:
    """The same leaves in lists, tuples and dictionaries of their own."""
    if type(value) in (list, tuple):
        return type(value)(map(containers, value))
    if type(value) is dict:
        return {key: containers(item) for key, item in value.items()}
    return value


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    return [each for each in getattr(value, "__dict__", {}).values() if torch.is_tensor(each)]
