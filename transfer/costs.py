"""What a request will cost in seconds: from its shape, and from those of its kind that ran. Pure.

The leader's step scheduler and the orchestrator's dispatch both predict with it, each from what it
has seen itself. No clock, no torch: whoever has measured something tells it.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import NamedTuple

from transfer.messages import Inputs, ModelInfo, Params, Role

MAX_SHAPES = 256  # the least recently measured are forgotten
WEIGHT = 0.25  # of a new measure against all before it
OUTLIER = 4.0  # a measure counts as this many times what is known, at most
NOMINAL_S = 1e-7  # per unit, while nothing is known: only the order of predictions means anything
STRETCH = 10.0  # times its own seconds, which a request lets shorter ones pass
STEPS = 50  # of a pipeline that does not say
SIDE = 1024  # pixels, of a model that does not say


class Shape(NamedTuple):
    """What the seconds of one step depend on. `passes`: forwards of one step, two with guidance."""

    workflow: Role
    width: int
    height: int
    frames: int = 1
    images: int = 1
    passes: int = 1

    @property
    def units(self) -> int:
        """Relative cost of a step: pixels x frames x images x passes."""
        return self.width * self.height * self.frames * self.images * self.passes


class Workload(NamedTuple):
    """One stage of a request: `steps` of its shape."""

    shape: Shape
    steps: int


def workload(role: Role, inputs: Inputs, model: ModelInfo | None) -> Workload:
    """What these inputs ask of a role; what they leave out is the model's own default."""
    if role == "encoder":  # texts differ little from each other
        return Workload(Shape(role, 1, 1), 1)
    params = inputs.params
    wide, high = (model and model.default_size) or (SIDE, SIDE)
    width, height = _count(params, "width", wide), _count(params, "height", high)
    frames, images = _count(params, "num_frames", 1), _count(params, "num_images_per_prompt", 1)
    if role == "decoder":
        return Workload(Shape(role, width, height, frames, images), 1)
    shape = Shape(role, width, height, frames, images, _passes(params))
    return Workload(shape, _count(params, "num_inference_steps", _default_steps(model)))


def _count(params: Params, name: str, default: int) -> int:
    given = params.get(name)
    return given if isinstance(given, int) and given > 0 else default


def _passes(params: Params) -> int:
    scale = params.get("true_cfg_scale", params.get("guidance_scale"))
    return 1 if isinstance(scale, int | float) and scale <= 1 else 2


def _default_steps(model: ModelInfo | None) -> int:
    for parameter in model.parameters if model else ():
        if parameter.name == "num_inference_steps" and isinstance(parameter.default, int):
            return max(1, parameter.default)
    return STEPS


class CostModel:
    """Seconds of a step, by shape and batch: how many requests shared its forwards.

    A forward that k requests share counts as 1/k of its seconds for each of them. What was never
    measured is predicted: another batch of the same shape costs the same; another shape as much as
    the nearest one that is known, in proportion to their units; and while nothing is known, the
    units alone put requests in order.
    """

    def __init__(self) -> None:
        self._shapes: OrderedDict[Shape, dict[int, float]] = OrderedDict()
        self._sizes: dict[Role, list[tuple[int, Shape]]] = {}  # of the known shapes, ascending

    def __len__(self) -> int:
        return len(self._shapes)

    def knows(self, workflow: Role) -> bool:
        """Whether predictions for it are seconds."""
        return bool(self._sizes.get(workflow))

    def measured(self, shape: Shape, batch: int) -> bool:
        """Whether this was seen, and is not only thought."""
        return batch in self._shapes.get(shape, ())

    def learn(self, shape: Shape, seconds: float, batch: int = 1) -> None:
        """One request's share of a step took so long."""
        if not 0.0 < seconds < float("inf"):
            return
        known = self._entry(shape)
        before = known.get(batch)
        if before is None:
            known[batch] = seconds
        else:
            known[batch] = before + WEIGHT * (min(seconds, OUTLIER * before) - before)

    def step(self, shape: Shape, batch: int = 1) -> float:
        """Seconds of one request's share of a step."""
        known = self._shapes.get(shape)
        if known is None:
            return self._guess(shape, batch)
        if batch in known:
            return known[batch]
        return known[min(known, key=lambda other: abs(other - batch))]

    def seconds(self, work: Workload, batch: int = 1) -> float:
        """Seconds of all steps."""
        return work.steps * self.step(work.shape, batch)

    def _guess(self, shape: Shape, batch: int) -> float:
        near = self._nearest(shape)
        if near is None:
            return NOMINAL_S * shape.units
        return self.step(near, batch) * shape.units / near.units

    def _nearest(self, shape: Shape) -> Shape | None:
        sizes, units = self._sizes.get(shape.workflow), shape.units
        if not sizes:
            return None
        place = bisect_left(sizes, (units, shape))
        around = sizes[max(0, place - 1) : place + 1]
        return min(around, key=lambda each: max(each[0], units) / min(each[0], units))[1]

    def _entry(self, shape: Shape) -> dict[int, float]:
        if shape not in self._shapes:
            self._shapes[shape] = {}
            insort(self._sizes.setdefault(shape.workflow, []), (shape.units, shape))
        self._shapes.move_to_end(shape)
        if len(self._shapes) > MAX_SHAPES:
            gone, _ = self._shapes.popitem(last=False)
            sizes = self._sizes[gone.workflow]
            del sizes[bisect_left(sizes, (gone.units, gone))]
        return self._shapes[shape]
