"""A request of a modular pipeline between two turns of a loop of its blocks, as data.

A loop of blocks (`LoopSequentialPipelineBlocks`) hands one block state from turn to turn: whatever
a block writes there, the next one reads, and nothing else passes from block to block. So with that
state, the pipeline's own, its schedulers and guiders, and the random generators, a request goes on
in another program. What has not changed since its first loop began is not taken: the program makes
it again when it runs from its beginning, with zeros for what its forwards give
(`roles.split.denoising.forward` tells why that is enough).

What else a loop may keep is looked at where it could be: in the variables of its function, in the
attributes of its blocks. If anything there changes from turn to turn, it is `NotPortable`.
"""

import ast
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState
from PIL import Image

from roles.split.denoising.answers import MOST_BYTES, nbytes_of
from roles.split.denoising.forward import Outputs
from roles.split.denoising.loop import NotPortable, source_of
from roles.split.denoising.snapshot import own, put_states, state_of, states_of, strange
from roles.split.modular.bar import Bar
from roles.split.modular.base import PLAIN, Base, version_of
from roles.split.randomness import GlobalRandomness
from roles.split.view import Pipeline, stateful

_STEP = "loop_step"
# attributes of a view that are ours, or only tell how far it is
_OURS = {"_num_timesteps", "_progress_bar_config"}
_HARMLESS = (Bar, Image.Image)
_KEPT = "\0what is there"  # in a snapshot: the program's own generator, component or scheduler


class LapSnapshots:
    """Takes one request's state where a turn of its loop has ended, and puts it in place again.

    `pipeline` is the shared one. A snapshot is a plain tree:

    - lap: how many turns of loops have ended
    - block, state, view: by name, what has changed in the loop's block state, in the pipeline's
      state, and on the request's own view of the pipeline
    - variables: lists and dictionaries in the variables of the loop's function that have changed
    - same: pairs of places (such as `block`, `latents`) that hold the very same tensor
    - generator, randomness: the states of the request's own generator, and of the global ones
    - parts: by name of a scheduler or guider, the attributes in which it is not as it was made
    - schedulers: the attributes of those that are no components, in the order of `_schedulers`
    - outputs: the shapes of what the forwards gave
    """

    def __init__(
        self, pipeline: Pipeline, generator: torch.Generator, randomness: GlobalRandomness
    ) -> None:
        self._pipeline = pipeline
        self._generator = generator
        self._randomness = randomness
        self._owners: list[Any] = []

    def begin(self, view: Pipeline, state: PipelineState) -> None:
        """The pipeline is about to run on these."""
        self._view, self._state = view, state
        self._look()

    def loop_begins(self, loop: Any, block_state: Any, frame: FrameType, forwards: int) -> None:
        """Before a loop's first turn; `frame` is that of its function. What earlier `forwards` gave
        may be in whatever it has by now."""
        self._loop, self._frame = loop, frame
        self._owners = [loop, *loop.sub_blocks.values()]
        self._attributes = [Base(vars(each)) for each in self._owners]
        self._locals = Base({})
        if not forwards:
            self._look()
            self._block = Base(_values(block_state))
            self._locals = Base(self._variables(block_state))
        else:
            self._block = self._values

    def lap_begins(self, block_state: Any) -> None:
        self._before = {n: (v, version_of(v)) for n, v in _tensors_of(vars(block_state))}

    def take(self, block_state: Any, lap: int, outputs: Outputs) -> dict[str, Any]:
        """The state at the end of a turn, copied. Raises NotPortable."""
        self._check(block_state)
        if not outputs.crosses:
            raise NotPortable("its model gives more than plain values and tensors")
        changed = {
            "block": self._block.changes(_values(block_state)),
            "state": self._values.changes(self._state.values),
            "view": self._attributes_of_view.changes(self._on_view()),
            "variables": self._locals.changes(self._variables(block_state)),
        }
        self._check_shared(changed["block"])
        if nbytes_of(changed) > MOST_BYTES:
            raise NotPortable(f"its loop carries more than {MOST_BYTES >> 20} MiB")
        same, copies = _copied(changed, self._known(block_state))
        return copies | {
            "lap": lap,
            "same": same,
            "generator": self._generator.get_state(),
            "randomness": self._randomness.now(),
            "parts": states_of(self._pipeline, self._view),
            "schedulers": [state_of(each) for each in self._schedulers(block_state)],
            "outputs": outputs.tree(),
        }

    def put(self, block_state: Any, snapshot: Mapping[str, Any]) -> None:
        """Goes on from a snapshot, at the end of the same turn. Raises RuntimeError if the pipeline
        has come there in another way than the one of which it was taken."""
        places = {
            "block": vars(block_state),
            "state": self._state.values,
            "view": vars(self._view),
        }
        astray = self._block.changes(_values(block_state)).keys() - snapshot["block"].keys()
        if astray := astray - {name for place, name, *_ in snapshot["same"] if place == "block"}:
            raise RuntimeError(f"the pipeline came another way here: {sorted(astray)}")
        for place, values in places.items():
            for name, value in snapshot[place].items():
                values[name] = _refilled(values.get(name), value)
        local = self._frame.f_locals
        for name, value in snapshot["variables"].items():
            _refill(local[name], _refilled(local[name], value))
        for place, name, whose, first in snapshot["same"]:
            places[place][name] = places[whose][first]
        put_states(self._pipeline, self._view, snapshot["parts"])
        for part, state in zip(self._schedulers(block_state), snapshot["schedulers"], strict=True):
            vars(part).update(state)
        self._generator.set_state(snapshot["generator"])
        self._randomness.set(snapshot["randomness"])

    def close(self) -> None:
        """Lets go of what the loop's function holds."""
        self.__dict__.pop("_frame", None)

    # ------------------------------------------------------------ what there is

    def _look(self) -> None:
        self._values = Base(self._state.values)
        self._attributes_of_view = Base(self._on_view())

    def _on_view(self) -> dict[str, Any]:
        """The attributes of the view that are no components, and not ours."""
        ours = self._pipeline.components.keys() | {n for n, _ in stateful(self._view)} | _OURS
        return {name: value for name, value in vars(self._view).items() if name not in ours}

    def _known(self, block_state: Any) -> set[int]:
        """By their ids, the objects whose state is the snapshot's, or that have none: a program
        that comes the same way has its own of them in the same places."""
        parts = (getattr(self._view, name) for name in self._pipeline.components)
        ours = [self._view, self._generator, *parts, *(p for _, p in stateful(self._view))]
        return {id(each) for each in (*ours, *self._schedulers(block_state)) if each is not None}

    def _schedulers(self, block_state: Any) -> list[Any]:
        """Those that a pipeline has made for itself, and keeps in its state."""
        own = {id(part) for _, part in stateful(self._view)}
        every = (*self._state.values.values(), *vars(block_state).values())
        found = {id(v): v for v in every if hasattr(v, "set_timesteps") and id(v) not in own}
        return list(found.values())

    def _variables(self, block_state: Any) -> dict[str, Any]:
        """Those of the loop's function that could carry something."""
        known = (self._loop, self._view, self._state, block_state)
        kind: type = type(self._loop)
        ids, targets = {id(each) for each in known}, targets_of(kind)
        local = self._frame.f_locals
        ours = ids | set(map(id, _harmless(list(local.values()))))
        return {n: v for n, v in local.items() if n not in targets and id(v) not in ours}

    # ------------------------------------------------------------ what must not be

    def _check(self, block_state: Any) -> None:
        """Raises NotPortable if there is more to the state than a snapshot has."""
        variables = self._variables(block_state)
        for name, value in self._locals.changes(variables).items():
            if type(value) in (list, dict):
                continue  # what it holds can be put there again
            raise NotPortable(f"its loop carries {name} from step to step")
        for owner, base in zip(self._owners, self._attributes, strict=True):
            for name in base.changes(vars(owner)):
                raise NotPortable(f"{type(owner).__name__} keeps {name} from step to step")
        every = variables | vars(block_state) | self._state.values
        known = self._known(block_state) | set(map(id, _harmless(list(every.values()))))
        for name, value in every.items():
            if found := strange(value, known):
                raise NotPortable(f"its loop uses {name}, with a {found}")

    def _check_shared(self, changed: Mapping[str, Any]) -> None:
        """What the loop writes to in place must not be seen through another tensor: the two would
        not share their memory any more."""
        for name, value in changed.items():
            before, version = self._before.get(name, (None, None))
            if before is None or before is not value or version == version_of(before):
                continue
            memory = before.untyped_storage().data_ptr()
            for other, seen in _tensors_of(changed):
                if seen is not before and seen.untyped_storage().data_ptr() == memory:
                    raise NotPortable(f"its loop writes to {name}, which {other} is a part of")


def _copied(
    changed: Mapping[str, Mapping[str, Any]], known: Collection[int]
) -> tuple[list[list[str]], dict[str, Any]]:
    """Copies of the values in all places, and which are the same as another."""
    first: dict[int, list[str]] = {}
    same: list[list[str]] = []
    copies: dict[str, Any] = {}
    for place, values in changed.items():
        copies[place] = {}
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and id(value) in first:
                same.append([place, name, *first[id(value)]])
                continue
            first[id(value)] = [place, name]
            copies[place][name] = _copy(value, name, known)
    return same, copies


def _copy(value: Any, name: str, known: Collection[int]) -> Any:
    """A copy, with `_KEPT` in the place of what is known by its id. Raises NotPortable."""
    if id(value) in known:
        return _KEPT
    if type(value) in (list, tuple):
        return type(value)(_copy(each, name, known) for each in value)
    if type(value) is dict:
        return own(dict.fromkeys(value), name) | {
            k: _copy(v, name, known) for k, v in value.items()
        }
    return own(value, name)


def _refilled(there: Any, value: Any) -> Any:
    """A copy, with what is there in the places that are kept."""
    if isinstance(value, str) and value == _KEPT:
        return there
    if type(value) in (list, tuple):
        before = there if type(there) is type(value) and len(there) == len(value) else value
        return type(value)(map(_refilled, before, value))
    if type(value) is dict:
        before = there if type(there) is dict else {}
        return {k: _refilled(before.get(k), v) for k, v in value.items()}
    return value


def _values(block_state: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(block_state).items() if not isinstance(value, Bar)}


def _refill(place: list[Any] | dict[Any, Any], value: Any) -> None:
    """Gives a container that others hold another content."""
    place.clear()
    if isinstance(place, dict):
        place.update(value)
    else:
        place.extend(value)


def _harmless(value: Any) -> Iterator[Any]:
    """What is in there and keeps nothing from step to step: whoever comes the same way has the
    same."""
    if isinstance(value, _HARMLESS) or _is_setting(value):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _harmless(each)


def _is_setting(value: Any) -> bool:
    """Whether it is a frozen dataclass of plain values."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    frozen: bool = value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return frozen and all(isinstance(v, PLAIN) for v in vars(value).values())


def _tensors_of(values: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((n, v) for n, v in values.items() if isinstance(v, torch.Tensor))


@functools.cache
def targets_of(kind: type[Any]) -> frozenset[str]:
    """The variables that the `for` loops around a class's `loop_step` count with."""
    found: set[str] = set()
    for node in ast.walk(source_of(kind.__call__)):
        if isinstance(node, ast.For) and any(map(_is_step, ast.walk(node))):
            names = ast.walk(node.target)
            found |= {each.id for each in names if isinstance(each, ast.Name)}
    return frozenset(found)


def _is_step(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name("self"), attr=name)):
            return name == _STEP
    return False
