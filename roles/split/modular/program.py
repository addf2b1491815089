"""The modular pipelines of diffusers as a `Program`: their declared blocks, a stage for each role.

- `encode` runs the blocks before `denoise`.
- `denoise` runs that block, one forward at a time.
- `decode` runs those after it.

What crosses is the state that the blocks downstream declare as their inputs
(`roles.split.modular.stages`). Every run happens on a view of its own (`roles.split.view`) with
guiders of its own (`roles.split.modular.guiders`), and copies of the blocks that tell how far a
loop is (`roles.split.modular.rounds`). Nothing here knows a model family.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState

from roles.samples import Sample
from roles.split import warming
from roles.split.decoding.outputs import Made, samples
from roles.split.decoding.preview import Looks, Seen
from roles.split.decoding.rates import asked_fps, fps_of, sample_rate
from roles.split.decoding.sparing import Sparing, sparingly
from roles.split.denoising.branches import Outlines
from roles.split.denoising.door import Coroutine
from roles.split.describe import describe_modular
from roles.split.encoding.encodings import Encodings
from roles.split.encoding.generation import Generation, Generator
from roles.split.encoding.generators import generators_of_blocks
from roles.split.encoding.reading import Reading
from roles.split.face import Face, StandIn
from roles.split.fast import Fast
from roles.split.files.components import Part, part_of
from roles.split.modular import stages
from roles.split.modular.begun import Begun
from roles.split.modular.computing import leaves
from roles.split.modular.course import CHECKPOINT, Course
from roles.split.modular.declared import call_of, outputs_of
from roles.split.modular.guiders import Guiders
from roles.split.modular.rounds import Rounds
from roles.split.modular.stages import Stage
from roles.split.parallel.tiles import Tiles
from roles.split.program import Call, NoPreview, TransformerCall, Unsplittable
from roles.split.randomness import GlobalRandomness
from roles.split.request import given, inputs, structures
from roles.split.request.refusals import bad_input
from roles.split.view import Pipeline, make_view
from roles.split.weights.adapters import Adapters
from roles.split.weights.exchange import Exchange
from roles.split.weights.sleeper import Sleeper
from transfer.messages import ModelInfo, Speed
from transfer.speed import told


class ModularProgram:
    """A modular pipeline with the weights of some roles, shared by all requests; see
    `program.Program`.

    `pipeline` holds real modules for what the roles' stages compute with and stand-ins for the
    rest. `speed`: how its transformer was prepared (`roles.split.fast`).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        divided: Mapping[Part, Stage],
        name: str,
        fingerprint: str,
        device: torch.device,
        speed: Speed | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.device = device
        self.encodings: Encodings | None = None
        self._stages = dict(divided)
        call = call_of(pipeline._blocks)
        own = inputs.arguments(call)
        self._guiders = Guiders(pipeline.components, {one.name for one in pipeline._blocks.inputs})
        self._arguments = own | self._guiders.arguments
        self.media = given.media_arguments(call)
        self._structures = structures.structures(call)
        self._inputs = {one.name for one in pipeline._blocks.inputs}
        self._modules = {
            name: part
            for name, part in pipeline.components.items()
            if isinstance(part, torch.nn.Module | StandIn)
        }
        self._dtypes = {name: _dtype(module) for name, module in self._real().items()}
        self._outlines = Outlines()
        self._looks = Looks(type(pipeline).__name__)
        self._fast = Fast(pipeline, self.of_part("denoiser"), speed)
        self._adapters = Adapters(
            pipeline, self._real_of("denoiser"), speed, self._real_of("encoder")
        )
        self.adapters: Adapters | None = self._adapters
        self.sleeper: Sleeper | None = None
        self.exchange: Exchange | None = None
        self.tiles: Tiles | None = None
        reason = stages.why_not(divided)
        made = outputs_of(pipeline._blocks)
        info = describe_modular(pipeline, name, fingerprint, self._arguments, call, made, reason)
        info = msgspec.structs.replace(info, generates=self._generating())
        self.info: ModelInfo = self._fast.describe(info)
        real = self._real()
        self._generators = [Generator(n, real[n]) for n in info.generates if n in real]

    # ------------------------------------------------------------ the roles

    def warm(self, ran: Callable[[int, int], None] | None = None) -> None:
        warming.warm(self, ran)

    def with_parts(self, parts: Mapping[str, Any]) -> "ModularProgram":
        """The same program with some components in the place of its own."""
        other = copy.copy(self)
        other.pipeline = copy.copy(self.pipeline)
        other.pipeline.__dict__.update(parts)
        other._modules = {**self._modules, **parts}
        other._dtypes = {name: _dtype(module) for name, module in other._real().items()}
        other._generators = [each for each in self._generators if each.name not in parts]
        return other

    def encode(self, call: Call) -> dict[str, Any]:
        params, generator, randomness = self._begin(call)
        worn = self._adapters.worn(call.inputs.loras)
        try:
            with randomness.in_place():
                worn.on_all()
                return self._encoded(call, params, generator)
        finally:
            self._settle()

    def encoding(self, call: Call) -> Generation:
        params, generator, randomness = self._begin(call)
        worn = self._adapters.worn(call.inputs.loras)

        def run(generation: Generation) -> dict[str, Any]:
            own = {each.name: generation.generate_of(each) for each in self._generators}
            return self._encoded(call, params, generator, own)

        return Generation(call.request, run, self._generators, randomness, worn, self._settle)

    def denoise(self, call: Call, payload: Any) -> Coroutine:
        params, generator, randomness = self._begin(call)
        speed = told(self.info.speed, call.inputs.step_cache)
        course = Course(self.pipeline, generator, randomness, payload, self.device)
        begun = Begun(payload["values"], payload["groups"])
        sent = {name: value for name, value in payload.items() if name != CHECKPOINT}

        def run(coroutine: Coroutine) -> dict[str, Any]:
            state = stages.restored(sent, generator)
            view = self._denoising_view(coroutine, params, {})
            course.begin(view, state)
            try:
                self._run("denoiser", view, state, coroutine)
            except Exception as error:
                raise (_early(coroutine, error, params) or error) from None
            made = stages.kept(state, self._later("denoiser"))
            return made | {"speed": speed} if speed else made

        def preview(seen: Seen) -> dict[str, Any]:
            with self._shadowing(call, seen, begun) as (view, state, _):
                self._run("denoiser", view, state)
                return stages.kept(state, self._later("denoiser"))

        coroutine = self._coroutine(call, params, run, randomness, preview)
        coroutine.follow(course)
        return coroutine

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        params, generator, randomness = self._begin(call)
        state = stages.restored(payload, generator)
        sparing = Sparing(call.request, call.inputs.exact, self.tiles)
        view = make_view(self.pipeline, self._decoders(sparing) | self._guiders.own(params))
        try:
            with randomness.in_place():
                self._run("decoder", view, state)
        finally:
            self._settle()
        return self._samples(call, state, params, sparing)

    def generate(self, call: Call) -> Coroutine:
        params, generator, randomness = self._begin(call)
        reading, sparing = Reading(params), Sparing(call.request, call.inputs.exact, self.tiles)
        begun: list[Begun] = []

        def run(coroutine: Coroutine) -> list[Sample]:
            state = self._first_state(call, params, generator)
            faces = self._readers(reading) | self._decoders(sparing)
            view = self._denoising_view(coroutine, params, faces, reading)
            try:
                for part in self._stages:
                    if part == "denoiser":
                        begun.append(Begun(state.values, state.kwargs_mapping))
                    self._run(part, view, state, coroutine)
            except Exception as error:
                raise (_early(coroutine, error, params) or error) from None
            return self._samples(call, state, params, sparing)

        def preview(seen: Seen) -> list[Sample]:
            if not begun:
                raise NoPreview("it has not begun to denoise")
            with self._shadowing(call, seen, begun[0]) as (view, state, sparing):
                for part in self._stages:
                    if part != "encoder":
                        self._run(part, view, state)
                return self._samples(call, state, params, sparing)

        return self._coroutine(call, params, run, randomness, preview)

    # ------------------------------------------------------------ their parts

    def _encoded(
        self,
        call: Call,
        params: dict[str, Any],
        generator: torch.Generator,
        generates: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """`generates`: what some components generate with instead of their own."""
        state = self._first_state(call, params, generator)
        reading = Reading(params)
        faces = self._readers(reading, generates) | self._guiders.own(params)
        view = make_view(self.pipeline, faces)
        try:
            self._run("encoder", view, state)
        except Exception as error:
            raise bad_input(error, {**params, **call.media}, self.media) or error from None
        reading.check()
        return stages.kept(state, self._later("encoder"))

    def _run(
        self, part: Part, view: Any, state: PipelineState, coroutine: Coroutine | None = None
    ) -> None:
        """Runs the stage of one role: the state has afterwards what its blocks wrote."""
        stage = self._stages.get(part)
        if stage is None:
            raise Unsplittable(self.info.pipeline, self.info.why_not or f"it has no {part}")
        Rounds(stage.blocks, view, coroutine).run(state)

    def _denoising_view(
        self,
        coroutine: Coroutine,
        params: dict[str, Any],
        others: Mapping[str, Any],
        reading: Reading | None = None,
    ) -> Any:
        """The view of a request whose transformers wait at the door. `others`: faces of other
        components."""
        faces, cache = dict(others), coroutine.cache
        for name, module in self._at_the_door().items():
            faces[name] = coroutine.face(name, module, self._fast.caches(name, cache))
        view = make_view(self.pipeline, faces | self._guiders.own(params))

        def check(call: TransformerCall) -> None:
            if reading is not None:
                reading.check()

        coroutine.watch(view, check)
        return view

    @contextlib.contextmanager
    def _shadowing(
        self, call: Call, seen: Seen, begun: Begun
    ) -> Iterator[tuple[Any, PipelineState, Sparing]]:
        """A view and a state on which the pipeline runs for a preview. Raises `NoPreview`, whatever
        goes wrong there."""
        params, generator, randomness = self._begin(call)
        sparing = Sparing(call.request, exact=False)
        with self._looks.at(seen, randomness, self._settle) as shadow:
            self._adapters.worn(call.inputs.loras).on_all()
            door = self._at_the_door().items()
            faces = self._decoders(sparing) | {name: shadow.face(name, m) for name, m in door}
            view = make_view(self.pipeline, faces | self._guiders.own(params))
            shadow.put(view)
            yield view, begun.state(generator), sparing

    def _readers(
        self, reading: Reading, generates: Mapping[str, Callable[..., Any]] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The faces of tokenizers, and of the models that write what those read."""
        faces = reading.faces(self.pipeline.components)
        for each in self._generators:
            faces[each.name] = reading.writer(each.module, generates.get(each.name))
        return faces

    def _decoders(self, sparing: Sparing) -> dict[str, Any]:
        """The faces of what decodes here."""
        real = self._real_of("decoder").items()
        decoding = {name: module for name, module in real if hasattr(module, "decode")}
        return {n: Face(m, {"decode": sparingly(n, m, sparing)}) for n, m in decoding.items()}

    def _at_the_door(self) -> dict[str, Any]:
        """The modules whose forwards are waited for: denoisers, and what is no decoder and
        computes in the loop. None if a guider changes them for some forwards: nobody else's may
        come in between."""
        if self._guiders.adjusting:
            return {}
        stage = self._stages.get("denoiser")
        looped = stage.looped if stage else frozenset()
        return {
            name: module
            for name, module in self._modules.items()
            if part_of(name) == "denoiser" or (part_of(name) == "encoder" and name in looped)
        }

    def _coroutine(
        self,
        call: Call,
        params: dict[str, Any],
        run: Callable[[Coroutine], Any],
        randomness: GlobalRandomness,
        preview: Callable[[Seen], Any],
    ) -> Coroutine:
        outlines = None if call.inputs.exact else self._outlines
        cache = self._fast.cache_of(call.inputs)
        known = self._arguments.get("num_inference_steps")
        steps = params.get("num_inference_steps") or (known.default if known else None) or 0
        settle = self._settle
        made = Coroutine(call.request, steps, run, randomness, settle, cache, outlines, preview)
        made.worn = self._adapters.worn(call.inputs.loras)
        return made

    def _later(self, part: Part) -> list[Stage]:
        order = stages.PARTS
        return [self._stages[p] for p in order[order.index(part) + 1 :] if p in self._stages]

    # ------------------------------------------------------------ arguments and results

    def _begin(self, call: Call) -> tuple[dict[str, Any], torch.Generator, GlobalRandomness]:
        """The request's own arguments and random numbers. Raises BadInput."""
        params = structures.plain(self._arguments, call)
        inputs.check_sizes(params, self.info.size_multiple)
        seed = call.inputs.seed
        randomness = GlobalRandomness(seed, self.device)
        return params, torch.Generator("cpu").manual_seed(seed), randomness

    def _first_state(
        self, call: Call, params: Mapping[str, Any], generator: torch.Generator
    ) -> PipelineState:
        ours: dict[str, Any] = {"generator": generator}
        if self.info.modality != "audio":
            ours["output_type"] = "pil"
        media = structures.made(self._structures, self.media, call)
        all_given = {**params, **media, **ours}
        return stages.begin(
            self.pipeline._blocks, {k: v for k, v in all_given.items() if k in self._inputs}
        )

    def _samples(
        self, call: Call, state: PipelineState, params: dict[str, Any], sparing: Sparing
    ) -> list[Sample]:
        last = list(self._stages.values())[-1]
        names = [name for name in outputs_of(last.blocks) if name in state.values]
        made = Made({name: state.get(name) for name in names})
        usual = fps_of(self.pipeline, self._arguments)
        fps = asked_fps(params, call.inputs.output.fps, usual)
        rate = made.get("sampling_rate") or sample_rate(self.pipeline)
        return [replace(each, decoded_in=sparing.way) for each in samples(made, params, fps, rate)]

    # ------------------------------------------------------------ the shared modules

    def _real(self) -> dict[str, Any]:
        return {n: m for n, m in self._modules.items() if not isinstance(m, StandIn)}

    def of_part(self, part: str) -> dict[str, Any]:
        """The modules and stand-ins of one of encoder, denoiser, decoder, by component name."""
        return {name: m for name, m in self._modules.items() if part_of(name) == part}

    def _real_of(self, part: Part) -> dict[str, Any]:
        return {n: m for n, m in self._real().items() if part_of(n) == part}

    def _generating(self) -> list[str]:
        stage = self._stages.get("encoder")
        if stage is None:
            return []
        return generators_of_blocks(leaves(stage.blocks), self.of_part("encoder"))

    def _settle(self) -> None:
        """Undoes casts that a failed pipeline left on shared modules (some decode in float32)."""
        for name, module in self._real().items():
            if _dtype(module) != self._dtypes[name]:
                module.to(self._dtypes[name])


def _early(coroutine: Coroutine, error: Exception, params: Mapping[str, Any]) -> Exception | None:
    """The BadInput that stands for an error before the first forward."""
    return bad_input(error, params) if coroutine.forwards == 0 else None


def _dtype(module: Any) -> torch.dtype | None:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
