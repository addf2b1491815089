"""The classic pipelines of diffusers as a `Program`: the pipeline's own `__call__`, three times.

- `encode` runs it until the transformer is first called, and keeps what its encoders gave;
  `encoding` does so a token at a time, where they generate.
- `denoise` runs it with those answers replayed, one forward at a time, until it decodes.
- `decode` runs it with the loop skipped, and decodes what the denoiser made.

Every run happens on a view of its own (`roles.split.view`), whose components are faces: real where
the role computes, stand-ins elsewhere. Nothing here knows a model family.
"""

import contextlib
import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import torch

from roles.samples import Sample
from roles.split import finite, warming
from roles.split.decoding import skipping
from roles.split.decoding.boundary import Boundary, Given, Reached, decodes_several_times
from roles.split.decoding.outputs import output_type, samples
from roles.split.decoding.preview import Looks, Seen, Shadow
from roles.split.decoding.rates import asked_fps, fps_of, sample_rate
from roles.split.decoding.skipping import NotSkipped
from roles.split.decoding.sparing import Sparing, sparingly
from roles.split.denoising.answers import Answers
from roles.split.denoising.branches import Outlines
from roles.split.denoising.door import Coroutine
from roles.split.denoising.loop import is_seen
from roles.split.denoising.snapshot import Snapshots
from roles.split.describe import describe
from roles.split.encoding.encodings import Encodings
from roles.split.encoding.feeding import feeding
from roles.split.encoding.generation import Generation, Generator
from roles.split.encoding.generators import generators
from roles.split.encoding.reading import Reading
from roles.split.encoding.recollection import Recollection
from roles.split.encoding.recording import Recorder, own_methods
from roles.split.encoding.replay import Replay, hollow
from roles.split.encoding.surroundings import Surroundings
from roles.split.face import ENCODES, Face, NotHere, StandIn
from roles.split.fast import Fast
from roles.split.files.components import part_of
from roles.split.imagined import Imagined
from roles.split.parallel.tiles import Tiles
from roles.split.program import Call, Unsplittable
from roles.split.quirks import one_by_one
from roles.split.randomness import GlobalRandomness
from roles.split.request import given, inputs, structures
from roles.split.request.foretelling import Foretelling
from roles.split.request.refusals import bad_input
from roles.split.skeleton import hollow_copy
from roles.split.view import Pipeline, make_view, replaced, schedulers
from roles.split.weights.adapters import Adapters, Worn
from roles.split.weights.exchange import Exchange
from roles.split.weights.sleeper import Sleeper
from transfer.messages import ModelInfo, Speed, StepCache
from transfer.speed import told

log = logging.getLogger(__name__)


class ClassicProgram:
    """A pipeline with the weights of some roles, shared by all requests; see `program.Program`.

    `pipeline` holds real modules for the roles' own components and stand-ins for the rest. `speed`:
    how its transformer was prepared (`roles.split.fast`).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        fingerprint: str,
        device: torch.device,
        why_not: str | None = None,
        speed: Speed | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.device = device
        self.encodings: Encodings | None = None
        self._signature = inspect.signature(type(pipeline).__call__).parameters
        self._arguments = inputs.arguments(type(pipeline).__call__)
        self.media = given.media_arguments(type(pipeline).__call__)
        self._structures = structures.structures(type(pipeline).__call__)
        self._modules = {
            name: part
            for name, part in pipeline.components.items()
            if isinstance(part, torch.nn.Module | StandIn)
        }
        self._dtypes = {name: _dtype(module) for name, module in self._real().items()}
        decoders = [n for n, m in self.of_part("decoder").items() if hasattr(m, "decode")]
        self._several = decodes_several_times(type(pipeline), decoders)
        self._skip = skipping.skip_of(type(pipeline))
        self._interrupted = skipping.interrupted(type(pipeline))
        self._foretelling = Foretelling()
        self._imagined: dict[str, Imagined] = {}
        self._looks = Looks(type(pipeline).__name__)
        self._methods = own_methods(type(pipeline))
        self._feeding = feeding(pipeline.__class__, frozenset(self.of_part("encoder")))
        self._alone = one_by_one(type(pipeline))
        self._outlines = None if self._alone else Outlines()
        self._fast = Fast(pipeline, self.of_part("denoiser"), speed)
        self._adapters = Adapters(
            pipeline, self._real_of("denoiser"), speed, self._real_of("encoder")
        )
        self.adapters: Adapters | None = self._adapters
        self.sleeper: Sleeper | None = None
        self.exchange: Exchange | None = None
        self.tiles: Tiles | None = None
        info = describe(pipeline, name, fingerprint, self._arguments, why_not)
        info = msgspec.structs.replace(info, generates=self._generating())
        self.info: ModelInfo = self._fast.describe(info)
        real = self._real()
        self._generators = [Generator(n, real[n]) for n in info.generates if n in real]

    # ------------------------------------------------------------ the roles

    def warm(self, ran: Callable[[int, int], None] | None = None) -> None:
        warming.warm(self, ran)

    def with_parts(self, parts: Mapping[str, Any]) -> "ClassicProgram":
        """The same program with some components in the place of its own."""
        other = copy.copy(self)
        other.pipeline = replaced(self.pipeline, parts)
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
                records = self._encoded(params, generator, randomness, {}, worn)
                self._check_size(call, records["kept"])
                return records | given.carried(call)
        finally:
            self._settle()

    def encoding(self, call: Call) -> Generation:
        params, generator, randomness = self._begin(call)
        worn = self._adapters.worn(call.inputs.loras)

        def run(generation: Generation) -> dict[str, Any]:
            own = {each.name: generation.generate_of(each) for each in self._generators}
            records = self._encoded(params, generator, randomness, own, worn)
            self._check_size(call, records["kept"])
            return records | given.carried(call)

        return Generation(call.request, run, self._generators, randomness, worn, self._settle)

    def denoise(self, call: Call, payload: Any) -> Coroutine:
        call = given.with_media(call, payload)
        params, generator, randomness = self._begin(call)
        cache = self._fast.cache_of(call.inputs)
        sent = payload["kept"]
        replay = Replay(sent, generator)
        kept = [(name, hollow(value), draws) for name, value, draws in sent]
        boundary = Boundary(self.info.pipeline, generator, self._several)
        carried = given.carried(call)
        snapshots = Snapshots(self.pipeline, generator, randomness, sent, carried)
        snapshot = payload.get("snapshot")
        forward = None if snapshot is None else snapshots.forward(snapshot)
        speed = told(self.info.speed, call.inputs.step_cache)

        def run(coroutine: Coroutine) -> dict[str, Any]:
            faces = {
                name: self._denoiser_face(name, module, coroutine, replay, boundary)
                for name, module in self._modules.items()
            }
            view = self._replaying(make_view(self.pipeline, faces), replay)
            coroutine.watch(view, boundary.check_forward)
            self._run_to(boundary, view, params | self._extras(generator, coroutine))
            if self._computes:
                told_by = ", ".join(coroutine.seen.outputs) or "the denoiser"
                finite.check(told_by, boundary.decodes, sent, "what the encoder sent")
            made = {"decodes": boundary.decodes, "kept": kept, **given.carried(call)}
            made["forms"] = coroutine.forms
            return made | {"speed": speed} if speed else made

        def preview(seen: Seen) -> dict[str, Any]:
            return self._previewed(call, kept, seen)

        coroutine = self._coroutine(call, params, run, randomness, cache, preview)
        coroutine.keep(snapshots, forward, self._answers_of(payload))
        coroutine.beside = False  # its encoders are stand-ins
        return coroutine

    def _answers_of(self, payload: Any) -> Answers | None:
        """What remembers all forwards of a request, if its loop's state cannot be seen."""
        kind: type = type(self.pipeline)
        if "snapshot" in payload or self._alone or is_seen(kind):
            return None
        return Answers(self.device, payload.get("answers", ()))

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        call = given.with_media(call, payload)
        try:
            return self._decode(call, payload, self._skip)
        except NotSkipped:
            made = self._decode(call, payload, "zeros")
            self._skip = "zeros"
            return made

    def generate(self, call: Call) -> Coroutine:
        params, generator, randomness = self._begin(call)
        cache = self._fast.cache_of(call.inputs)
        reading, sparing = Reading(params), Sparing(call.request, call.inputs.exact, self.tiles)

        def run(coroutine: Coroutine) -> list[Sample]:
            faces = reading.faces(self.pipeline.components)
            faces |= {each.name: reading.writer(each.module) for each in self._generators}
            for name, module in self.of_part("denoiser").items():
                faces[name] = coroutine.face(name, module, self._fast.caches(name, cache))
            for name, module in self.of_part("decoder").items():
                if hasattr(module, "decode"):
                    faces[name] = Face(module, {"decode": sparingly(name, module, sparing)})
            view = make_view(self.pipeline, faces)
            coroutine.watch(view, lambda call: reading.check())
            try:
                output = view(**params, **self._extras(generator, coroutine))
            except Exception as error:
                early = coroutine.forwards == 0
                raise (bad_input(error, params, self.media) if early else None) or error from None
            return self._samples(call, output, params, sparing)

        def preview(seen: Seen) -> list[Sample]:
            return self._shown(call, seen)

        return self._coroutine(call, params, run, randomness, cache, preview)

    # ------------------------------------------------------------ their parts

    def _encoded(
        self,
        params: dict[str, Any],
        generator: torch.Generator,
        randomness: GlobalRandomness,
        generates: Mapping[str, Any],
        worn: Worn,
    ) -> dict[str, Any]:
        """`generates`: what some components generate with instead of their own."""
        reading = Reading(params)
        memory = Recollection(self.encodings, reading, randomness, worn.of_text)
        recorder = Recorder(generator, memory, self._feeding)
        faces = reading.faces(self.pipeline.components)
        for name, module in self._modules.items():
            faces[name] = self._encoder_face(name, module, recorder, generates.get(name))
        view = make_view(self.pipeline, faces)
        for method in self._methods:
            view.__dict__[method] = recorder.method(method, getattr(view, method))
        memory.begin(Surroundings.of(view, faces))
        try:
            view(**params, **self._extras(generator))
        except Reached:
            reading.check()
            memory.settle()
            return {"kept": recorder.kept}
        except Exception as error:
            raise bad_input(error, params, self.media) or error from None
        raise Unsplittable(self.info.pipeline, "it never called its denoiser")

    def _coroutine(
        self,
        call: Call,
        params: dict[str, Any],
        run: Callable[[Coroutine], Any],
        randomness: GlobalRandomness,
        cache: StepCache | None,
        preview: Callable[[Seen], Any] | None = None,
    ) -> Coroutine:
        outlines = None if call.inputs.exact else self._outlines
        steps = self._steps(params)
        settle = self._settle
        made = Coroutine(call.request, steps, run, randomness, settle, cache, outlines, preview)
        made.worn = self._adapters.worn(call.inputs.loras)
        made.alone = self._alone
        return made

    def _previewed(self, call: Call, kept: Any, seen: Seen) -> dict[str, Any]:
        """What `denoise` would give if its loop ended now. Raises `NoPreview`."""
        with self._shadowing(call, seen) as (shadow, params, generator):
            replay = Replay(kept, generator)
            boundary = Boundary(self.info.pipeline, generator, self._several)
            faces = {
                name: self._denoiser_face(name, module, shadow, replay, boundary)
                for name, module in self._modules.items()
            }
            view = self._replaying(make_view(self.pipeline, faces), replay)
            shadow.put(view)
            self._run_to(boundary, view, params | self._extras(generator))
        return {"decodes": boundary.decodes, "kept": kept, **given.carried(call)}

    def _shown(self, call: Call, seen: Seen) -> list[Sample]:
        """What `generate` would give if its loop ended now. Raises `NoPreview`."""
        with self._shadowing(call, seen) as (shadow, params, generator):
            self._adapters.worn(call.inputs.loras).on_all()
            faces = {name: shadow.face(name, m) for name, m in self.of_part("denoiser").items()}
            sparing = Sparing(call.request, exact=False)
            for name, module in self.of_part("decoder").items():
                if hasattr(module, "decode"):
                    faces[name] = Face(module, {"decode": sparingly(name, module, sparing)})
            view = make_view(self.pipeline, faces)
            shadow.put(view)
            output = view(**params, **self._extras(generator))
            return self._samples(call, output, params, sparing)

    @contextlib.contextmanager
    def _shadowing(
        self, call: Call, seen: Seen
    ) -> Iterator[tuple[Shadow, dict[str, Any], torch.Generator]]:
        """Where the pipeline runs for a preview. Raises `NoPreview`, whatever goes wrong there."""
        params, generator, randomness = self._begin(call)
        with self._looks.at(seen, randomness, self._settle) as shadow:
            yield shadow, params, generator

    def _encoder_face(
        self, name: str, module: Any, recorder: Recorder, generate: Callable[..., Any] | None
    ) -> Face:
        part = part_of(name)
        if part == "encoder":
            return recorder.watch(name, module, generate)
        if part == "denoiser":
            stops = dict.fromkeys(("__call__", "forward", "cache_context"), _reached)
            return self._stand_in(name, module, stops)
        if isinstance(module, StandIn) or not hasattr(module, "encode"):
            return self._stand_in(name, module, {"decode": _reached})
        ways = {way: getattr(module, way) for way in ENCODES if hasattr(module, way)}
        answers: dict[str, Any] = {
            way: recorder.watch_latents(name, way, encode) for way, encode in ways.items()
        }
        for part, child in module.named_children():
            kept = recorder.watch_latents(name, part, child)
            answers[part] = Face(child, {"__call__": kept, "forward": kept})
        return Face(module, answers | {"decode": _reached})

    def _denoiser_face(
        self, name: str, module: Any, door: Coroutine | Shadow, replay: Replay, boundary: Boundary
    ) -> Face:
        if part_of(name) == "denoiser":
            if isinstance(door, Shadow):
                return door.face(name, module)
            return door.face(name, module, self._fast.caches(name, door.cache))
        face = self._stand_in(name, module, replay.of(name))
        if part_of(name) == "decoder":
            face.answer("decode", lambda *args, **kw: boundary.take(name, face, args, kw))
        return face

    def _decoder_face(
        self, name: str, module: Any, replay: Replay, decodes: Given, zeros: skipping.Zeros | None
    ) -> Face:
        answers = replay.of(name)
        if part_of(name) == "denoiser" and zeros is not None:
            return self._stand_in(name, module, {"__call__": zeros})
        if part_of(name) != "decoder":
            return self._stand_in(name, module, answers)
        decode = {"decode": lambda *args, **kw: decodes.decode(name, module, args, kw)}
        return Face(module, answers | decode)

    def _decode(self, call: Call, payload: Any, skip: str) -> list[Sample]:
        params, generator, randomness = self._begin(call)
        sparing = Sparing(call.request, call.inputs.exact, self.tiles)
        replay = Replay(payload["kept"], generator)
        decodes = Given(self.info.pipeline, payload["decodes"], generator, sparing)
        zeros = skipping.Zeros(payload.get("forms"), decodes) if skip == "zeros" else None
        faces = {
            name: self._decoder_face(name, module, replay, decodes, zeros)
            for name, module in self._modules.items()
        }
        view = self._past_the_loop(faces, replay, skip)
        try:
            with randomness.in_place():
                output = view(**params, **self._extras(generator))
        except Exception as error:
            astray = isinstance(error, UnboundLocalError | Unsplittable)
            if skip != "zeros" and (not decodes.begun or astray):
                raise NotSkipped from error
            raise
        finally:
            self._settle()
        decodes.finish()
        return self._samples(call, output, params, sparing)

    def _past_the_loop(self, faces: dict[str, Any], replay: Replay, skip: str) -> Any:
        """A view whose loop is left out, in the way that `skipping` calls so."""
        view = self._replaying(make_view(self.pipeline, faces), replay)
        if skip == "interrupt":
            view.__class__ = self._interrupted
        if skip == "empty":
            for _, scheduler in schedulers(view):
                if hasattr(scheduler, "set_timesteps"):
                    skipping.empty_schedule(scheduler)
        return view

    def _check_size(self, call: Call, kept: Any) -> None:
        """Raises BadInput for a picture of a size that this pipeline would not make of what it was
        given. `kept`: what the encoders gave."""
        if self.info.modality != "image":
            return

        def make() -> list[Sample]:
            params, generator, randomness = self._begin(call)
            replay = Replay(kept, generator)
            zeros = skipping.Zeros(None) if self._skip == "zeros" else None
            faces = {
                name: self._shape_face(name, module, replay, zeros)
                for name, module in self._modules.items()
            }
            view = self._past_the_loop(faces, replay, self._skip)
            with randomness.in_place():
                output = view(**params, **self._extras(generator))
            return self._samples(call, output, params, Sparing(call.request, exact=True))

        self._foretelling.check(call, make)

    def _shape_face(
        self, name: str, module: Any, replay: Replay, zeros: skipping.Zeros | None
    ) -> Face:
        """Of a component in a run that computes nothing: decoders say zeros."""
        answers = replay.of(name)
        if part_of(name) == "decoder" and hasattr(module, "decode"):
            if name not in self._imagined:
                bare = module.component if isinstance(module, StandIn) else hollow_copy(module)
                self._imagined[name] = Imagined(bare, self.device)
            answers = answers | {"decode": self._imagined[name].decode}
        if part_of(name) == "denoiser" and zeros is not None:
            answers = {"__call__": zeros}
        return self._stand_in(name, module, answers)

    def _run_to(self, boundary: Boundary, view: Any, arguments: dict[str, Any]) -> None:
        """Runs a denoiser's pipeline until it has given its decoders everything."""
        if self._several and "output_type" in arguments:
            arguments["output_type"] = "pt"  # the results have no data to make pictures of
        try:
            view(**arguments)
        except Reached:
            pass
        except NotHere as error:
            if not boundary.decodes or error.method in ENCODES:
                reason = "it encodes once its denoiser has begun"
                raise Unsplittable(self.info.pipeline, reason) from error
        except Exception:
            if not boundary.decodes:
                raise
            log.debug("the pipeline wants data after its decodes: the boundary", exc_info=True)
        if not boundary.decodes:
            raise Unsplittable(self.info.pipeline, "it ends without decoding")

    def _replaying(self, view: Any, replay: Replay) -> Any:
        for name in replay.methods:
            view.__dict__[name] = replay.method(name, getattr(self.pipeline, name))
        return view

    def _stand_in(self, name: str, module: Any, answers: dict[str, Any]) -> StandIn:
        if isinstance(module, StandIn):
            return module.for_request(answers)
        return StandIn(name, module, self.device, answers)

    # ------------------------------------------------------------ arguments and results

    def _begin(self, call: Call) -> tuple[dict[str, Any], torch.Generator, GlobalRandomness]:
        """The request's own arguments and random numbers. Raises BadInput."""
        params = structures.plain(self._arguments, call)
        inputs.check_sizes(params, self.info.size_multiple)
        params |= structures.made(self._structures, self.media, call)
        seed = call.inputs.seed
        randomness = GlobalRandomness(seed, self.device)
        return params, torch.Generator("cpu").manual_seed(seed), randomness

    def _extras(
        self, generator: torch.Generator, coroutine: Coroutine | None = None
    ) -> dict[str, Any]:
        """The arguments that are ours, as far as the pipeline has them."""
        extras: dict[str, Any] = {"generator": generator}
        if self.info.modality != "audio" and (shown := output_type(self.pipeline)):
            extras["output_type"] = shown
        if coroutine is not None:
            extras["callback_on_step_end"] = coroutine.count
        return {name: value for name, value in extras.items() if name in self._signature}

    def _samples(
        self, call: Call, output: Any, params: dict[str, Any], sparing: Sparing
    ) -> list[Sample]:
        usual = fps_of(self.pipeline, self._arguments)
        fps = asked_fps(params, call.inputs.output.fps, usual)
        made = samples(output, params, fps, sample_rate(self.pipeline))
        return [replace(sample, decoded_in=sparing.way) for sample in made]

    def _value(self, params: Mapping[str, Any], name: str) -> Any:
        known = self._arguments.get(name)
        return params.get(name, known.default if known else None)

    def _steps(self, params: dict[str, Any]) -> int:
        return self._value(params, "num_inference_steps") or 0

    # ------------------------------------------------------------ the shared modules

    @property
    def _computes(self) -> bool:
        """Whether there will be numbers. Zeros that were only imagined are divided by zeros where
        guidance keeps a norm."""
        return not any(isinstance(each, Imagined) for each in self.of_part("denoiser").values())

    def _real(self) -> dict[str, Any]:
        return {n: m for n, m in self._modules.items() if not isinstance(m, StandIn)}

    def of_part(self, part: str) -> dict[str, Any]:
        """The modules and stand-ins of one of encoder, denoiser, decoder, by component name."""
        return {name: m for name, m in self._modules.items() if part_of(name) == part}

    def _generating(self) -> list[str]:
        return generators(type(self.pipeline), self.of_part("encoder"))

    def _real_of(self, part: str) -> dict[str, Any]:
        return {n: m for n, m in self._real().items() if part_of(n) == part}

    def _settle(self) -> None:
        """Undoes casts that a failed pipeline left on shared modules (some decode in float32)."""
        for name, module in self._real().items():
            if _dtype(module) != self._dtypes[name]:
                module.to(self._dtypes[name])


def _dtype(module: Any) -> torch.dtype | None:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def _reached(*args: Any, **kwargs: Any) -> Any:
    raise Reached
