"""What a rank does with requests: the program of its model, between slots and media files."""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from roles.calls import (
    Begin,
    Key,
    Marked,
    Outcome,
    Outcomes,
    Peek,
    Run,
    StepDone,
    Store,
    Stored,
    shorten,
)
from roles.cores import Cores, OwnCores
from roles.leader.scheduler import SINGLE_UNIT
from roles.rank.enclosed import media_of
from roles.rank.finisher import Finisher, Pending
from roles.rank.media import Encoded, Unencodable, encode
from roles.rank.provenance import Making
from roles.rank.slots import Slots
from roles.rank.spreading import Spreading
from roles.rank.stepping import Stepper, Turn
from roles.rank.telling import Telling
from roles.refusals import Unsupported
from roles.samples import Sample
from roles.split.decoding.sparing import NoRoom
from roles.split.denoising.batching import key_of
from roles.split.encoding.tokens import TokenCall
from roles.split.finite import NotFinite
from roles.split.program import (
    BadInput,
    Call,
    Checkpoint,
    Denoising,
    NoPreview,
    Program,
    TransformerCall,
    Unavailable,
    Unsplittable,
)
from roles.split.weights.adapters import AdapterGone
from roles.split.weights.sleeper import Asleep, Sleeper
from transfer.actions import PutWeights, Slept, UpdateWeights, WeightsUpdated, Woken
from transfer.errors import PayloadError
from transfer.messages import ErrorInfo, Inputs, Role
from transfer.payload import Packed, pack, unpack
from transfer.pool import SlotPool
from transfer.previews import passed
from transfer.speed import told

if TYPE_CHECKING:
    from roles.rank.world import World
    from roles.split.encoding.generation import Generation

MEDIA_THREADS = 2  # at most; beside a device that decodes faster than one of them encodes
_SHORT = {"num_inference_steps": "steps"}
_SIZE = ("height", "width", "num_frames")


class _Live:
    """One request in this rank."""

    def __init__(
        self, key: Key, call: Call, role: Role, cores: Cores | OwnCores, previews: int = 0
    ) -> None:
        self._cores = cores
        self.key = key
        self.previews = previews
        self.told = 0  # that so many of them are due
        self.call = call
        self.role = role
        self.payload: Any = None
        self.denoising: Denoising | Generation | None = None
        self.packed: Packed | None = None
        self.checkpoint: Packed | None = None
        self.seen: Checkpoint | None = None  # the latest that the leader was told of

    @property
    def due(self) -> int:
        """How many previews should have been made."""
        at = self.denoising
        return 0 if at is None else passed(at.step, at.steps, self.previews)

    @property
    def stops(self) -> bool:
        return self.due > self.told

    @property
    def batch_key(self) -> str | None:
        """What may share the pending forwards; None: nothing, because it is to be exact, or cannot
        be understood."""
        key = self.key_of_forwards
        return None if key is None else self._cores.label(key)

    @property
    def key_of_forwards(self) -> str | None:
        """The same, however many threads compute them."""
        if not self.branches or self.call.inputs.exact:
            return None
        first = self.branches[0]
        return first.key if isinstance(first, TokenCall) else key_of(first)

    @property
    def branches(self) -> tuple[TransformerCall | TokenCall, ...]:
        return () if self.denoising is None else self.denoising.pending

    def close(self) -> None:
        if self.denoising is not None:
            self.denoising.cancel()


class _Clock:
    """Seconds spent reading and computing in one unit.

    A device that works on after its calls have returned is waited for (`settle`): so that the
    seconds are true, an error is that of the request that caused it, and no abort finds steps
    queued behind it.
    """

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self.spent = {"read_s": 0.0, "compute_s": 0.0}

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
            self._settle()
        finally:
            self.spent[what] += time.perf_counter() - began


class Runner:
    """Owns the program and every request that has begun in this rank. Called by the worker's loop.

    Whatever a request raises becomes its own `Outcome` with an error, and the request is forgotten;
    the others of the same call go on. Rank 0 writes payloads and files; the others compute the same
    and keep nothing of it. `wanted` tells whether another call waits; `cores`, how many threads to
    use now (None: `threads`). `tell` gets the steps of a turn that goes on, now and then. `world`:
    the ranks that divide forwards with this one.
    """

    def __init__(
        self,
        program: Program,
        pool: SlotPool | None,
        rank: int,
        threads: int,
        settle: Callable[[], None],
        slice_s: float,
        wanted: Callable[[], bool],
        cores: Cores | OwnCores | None = None,
        tell: Callable[[list[StepDone]], None] | None = None,
        world: "World | None" = None,
    ) -> None:
        self.program = program
        self._slots = Slots(pool, world)
        self._first = rank == 0
        self._threads = threads
        self._settle = settle
        self._world = world
        telling = Telling(tell) if tell is not None and rank == 0 else None
        self._stepper = Stepper(settle, slice_s, wanted, telling, world)
        self._finisher = Finisher(min(threads, MEDIA_THREADS))
        self._cores = cores or OwnCores(threads)
        self._spreading = Spreading()
        self._live: dict[Key, _Live] = {}

    @property
    def requests(self) -> int:
        """How many are in this rank's memory."""
        return len(self._live)

    def sleep(self, level: int) -> Slept:
        """Frees the device. Raises RuntimeError while a request is amid its steps, and what
        `Sleeper.sleep` does."""
        self._check_idle()
        if self.program.encodings is not None:
            self.program.encodings.clear()
        return self._sleeper.sleep(level)

    def wake(self) -> Woken:
        """Raises what `Sleeper.wake` does."""
        return self._sleeper.wake()

    def update(self, action: UpdateWeights | PutWeights) -> WeightsUpdated:
        """Other weights from now on. Raises RuntimeError while a request is amid its steps, which
        must not see two of them, and what `Exchange` does."""
        exchange = self.program.exchange
        if exchange is None:
            raise Unsupported("the weights of this model stay what they are")
        self.check_awake()
        self._check_idle()
        if self.program.encodings is not None:
            self.program.encodings.clear()
        if isinstance(action, UpdateWeights):
            return exchange.update(action)
        return exchange.put(action)

    def _check_idle(self) -> None:
        amid = sum(live.denoising is not None for live in self._live.values())
        if amid:
            raise RuntimeError(f"{amid} requests are being denoised")

    @property
    def _sleeper(self) -> Sleeper:
        if self.program.sleeper is None:
            raise Unsupported("the weights of this model stay where they are")
        return self.program.sleeper

    def check_awake(self) -> None:
        """Raises `Asleep`."""
        sleeper = self.program.sleeper
        if sleeper is not None and sleeper.level:
            raise Asleep("it sleeps; wake it first")

    def warm(self, ran: Callable[[int, int], None]) -> None:
        """`ran` gets how many forwards have run, of how many."""

        def settled(done: int, count: int) -> None:
            self._settle()
            ran(done, count)

        if self._world is None:
            self.program.warm(settled)
        else:
            self._world.together(lambda: self.program.warm(settled), forward=True)

    def begin(self, call: Begin) -> Outcomes:
        key = (call.request, call.attempt)
        self.check_awake()
        if key in self._live:
            raise RuntimeError(f"{key} has begun already")
        inner = Call(call.request, call.inputs)
        live = self._live[key] = _Live(key, inner, call.role, self._cores, call.previews)
        return Outcomes([self._guarded(key, lambda clock: self._take_in(live, call, clock))])

    def peek(self, call: Peek) -> Outcomes:
        key = (call.request, call.attempt)
        shown = self._live.get((call.of, call.of_attempt))
        return Outcomes([self._guarded(key, partial(self._peek, key, shown))])

    def run(self, call: Run) -> Outcomes:
        if call.unit == "step":
            self._mark(call.marked)
            turns = [self._turn(group, call.share) for group in call.groups]
            return Outcomes([told for turn in turns for told in turn])
        unit = {"encode": self._encode, "decode": self._decode}[call.unit]
        keys = [key for group in call.groups for key in group]
        return Outcomes([self._guarded(key, partial(self._on, unit, key)) for key in keys])

    def store(self, call: Store) -> Stored:
        key = (call.request, call.attempt)
        if call.checkpoint and key not in self._live:
            raise RuntimeError(f"{key} has failed, or is stored, since its checkpoint was made")
        live = self._live[key] if call.checkpoint else self._live.pop(key)
        packed = live.checkpoint if call.checkpoint else live.packed
        live.checkpoint = None
        if not self._first:
            return Stored(None)
        assert packed is not None, "Store before the payload is computed"
        return Stored(packed.write(self._slots.to_write(call.slots, packed.nbytes)))

    def collect(self, key: Key, answer: Callable[[Outcome], None]) -> None:
        """Has `answer` called with the finished files, or with why there are none: at once, or
        later, from another thread."""
        self._finisher.collect(key, lambda making: answer(_finished(key, making)))

    def drop(self, key: Key) -> None:
        self._finisher.drop(key)
        live = self._live.pop(key, None)
        if live is not None:
            live.close()

    def _on(self, unit: Callable[[_Live, _Clock], Outcome], key: Key, clock: _Clock) -> Outcome:
        live = self._live[key]
        kind = _unit_of(unit.__name__, live)
        self._spread([live], kind)
        outcome = unit(live, clock)
        self._spreading.learn(kind, self._cores.current, clock.spent["compute_s"])
        return outcome

    def _spread(self, group: list[_Live], kind: str) -> None:
        """Over as many cores as are free now, where that is faster; over its own for what has to
        be exact."""
        cores, before = self._cores, self._cores.current
        exact = any(live.call.inputs.exact for live in group)
        most = cores.threads(exact)
        if self._spreading.choose(kind, cores.own, most) < most:
            cores.threads(True)
        if cores.current != before:
            torch.set_num_threads(cores.current)

    def close(self) -> None:
        """Forgets everything."""
        for key in list(self._live):
            self.drop(key)
        self._finisher.close()

    # ------------------------------------------------------------ units

    def _mark(self, keys: list[Key]) -> None:
        for key in keys:
            if key in self._live and (denoising := self._live[key].denoising) is not None:
                denoising.mark()

    def _take_in(self, live: _Live, begin: Begin, clock: _Clock) -> Outcome:
        kind = _unit_of("begin", live)
        self._spread([live], kind)
        if begin.files:
            with clock.measure("read_s"):
                files = [(file.upload, self._slots.file(file)) for file in begin.files]
                media = media_of(files, self.program.info.sample_rate)
                live.call = replace(live.call, media=media)
        if (delivery := begin.delivery) is not None:
            with clock.measure("read_s"):
                segments = self._slots.read(delivery)
                live.payload = unpack(
                    segments, delivery.nbytes, delivery.checksum, device=self.program.device
                )
        if live.role in SINGLE_UNIT:
            return Outcome(*live.key)
        with clock.measure("compute_s"):
            live.denoising = self._denoising(live)
            live.denoising.start()
        self._spreading.learn(kind, self._cores.current, clock.spent["compute_s"])
        return self._progress(live, clock)

    def _denoising(self, live: _Live) -> Denoising:
        if live.role == "monolithic":
            return self.program.generate(live.call)
        payload, live.payload = live.payload, None  # the pipeline holds what it needs of it
        return self.program.denoise(live.call, payload)

    def _peek(self, key: Key, shown: _Live | None, clock: _Clock) -> Outcome:
        if shown is None or shown.denoising is None:
            raise NoPreview("it is not being denoised any more")
        with clock.measure("compute_s"):
            made = shown.denoising.preview()
        live = self._live[key] = _Live(key, shown.call, shown.role, self._cores)
        if shown.role == "monolithic":
            speed = told(self.program.info.speed, shown.call.inputs.step_cache)
            return self._made(live, made, Outcome(*key), speed)
        return self._computed(live, made, Outcome(*key))

    def _encode(self, live: _Live, clock: _Clock) -> Outcome:
        if self.program.info.generates:
            return self._read(live, clock)
        with clock.measure("compute_s"):
            payload = self.program.encode(live.call)
        return self._encoded(live, payload, Outcome(*live.key))

    def _read(self, live: _Live, clock: _Clock) -> Outcome:
        """An encode of a pipeline that may write something first: all but that. Its prompt is read
        here, so that this takes turns with the tokens of others."""
        with clock.measure("compute_s"):
            live.denoising = generation = self.program.encoding(live.call)
            generation.start()
            generation.read()
        return self._progress(live, clock)

    def _encoded(self, live: _Live, payload: Any, outcome: Outcome) -> Outcome:
        cache = self.program.encodings
        outcome = replace(outcome, encodings=None if cache is None else cache.report)
        return self._computed(live, payload, outcome)

    def _turn(self, group: tuple[Key, ...], share: int) -> list[Outcome]:
        """Steps of requests that share their forwards; what fails, fails alone."""
        known = [self._live[key] for key in group if key in self._live]
        kind = _steps_of(known, share)
        self._spread(known, kind)
        turn = self._stepper.take(known, share) if known else Turn([])
        if turn.measured is not None and turn.measured.seconds is not None:
            self._spreading.learn(kind, self._cores.current, turn.measured.seconds)
        errors = {live.key: error for live, error in zip(known, turn.errors, strict=True)}
        told = [self._guarded(key, partial(self._stepped, key, errors)) for key in group]
        told = [replace(o, compute_s=o.compute_s + turn.seconds) for o in told]
        return [replace(told[0], measured=turn.measured), *told[1:]]

    def _stepped(self, key: Key, errors: dict[Key, Exception | None], clock: _Clock) -> Outcome:
        if (error := errors.get(key)) is not None:
            raise _at_first(self._live[key], error) or error
        return self._progress(self._live[key], clock)

    def _decode(self, live: _Live, clock: _Clock) -> Outcome:
        speed = live.payload.get("speed") if isinstance(live.payload, dict) else None
        with clock.measure("compute_s"):
            samples = self.program.decode(live.call, live.payload)
        return self._made(live, samples, Outcome(*live.key), speed)

    # ------------------------------------------------------------ outcomes

    def _progress(self, live: _Live, clock: _Clock) -> Outcome:
        denoising = live.denoising
        assert denoising is not None
        live.told = live.due
        outcome = Outcome(*live.key, step=denoising.step, steps=denoising.steps)
        if not denoising.done:
            outcome = replace(outcome, batch_key=live.batch_key, branches=len(live.branches))
            return replace(outcome, checkpoint=self._marked(live))
        result, live.denoising = denoising.result(), None
        if live.role == "monolithic":
            speed = told(self.program.info.speed, live.call.inputs.step_cache)
            return self._made(live, result, outcome, speed)
        compute = self._encoded if live.role == "encoder" else self._computed
        return compute(live, result, outcome)

    def _marked(self, live: _Live) -> Marked | None:
        """What came of a mark, if it is new. Only the first rank keeps it."""
        assert live.denoising is not None
        new = live.denoising.checkpoint
        if new is None or new is live.seen:
            return None
        live.seen = new
        if new.why_not is not None:
            return Marked(new.step, why_not=shorten(new.why_not))
        live.checkpoint = pack(new.payload) if self._first else None
        return Marked(new.step, live.checkpoint.nbytes if live.checkpoint else 0)

    def _computed(self, live: _Live, payload: Any, outcome: Outcome) -> Outcome:
        live.payload, live.packed = None, pack(payload)
        return replace(outcome, done=True, nbytes=live.packed.nbytes)

    def _made(
        self, live: _Live, samples: list[Sample], outcome: Outcome, speed: str | None
    ) -> Outcome:
        live.payload = None
        inputs = live.call.inputs
        wanted = samples if self._first else []
        making = self._making(inputs, speed)
        make = partial(_files, wanted, inputs, making, self._threads, speed)
        self._finisher.begin(live.key, make)
        return replace(outcome, done=True)

    def _making(self, inputs: Inputs, speed: str | None) -> Making:
        """What a file tells about how it was made: the request, and the model."""
        params = {_SHORT.get(name, name): value for name, value in inputs.params.items()}
        model = self.program.info.name
        loras = ", ".join(f"{lora.name}:{lora.scale:g}" for lora in inputs.loras) or None
        known: Making = {
            **params,
            "loras": loras,
            "seed": inputs.seed,
            "model": model,
            "speed": speed,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _guarded(self, key: Key, unit: Callable[[_Clock], Outcome]) -> Outcome:
        """The unit's outcome, whatever it does, with the seconds it took."""
        clock = _Clock(self._settle)
        try:
            outcome = unit(clock)
        except Exception as error:
            self.drop(key)
            outcome = Outcome(*key, error=error_info(error))
        return replace(outcome, **clock.spent)


def _unit_of(name: str, live: _Live) -> str:
    """The kind of a unit that is no step (`roles.rank.spreading`): by its role and its size."""
    params = live.call.inputs.params
    return f"{name} {live.role} {[params.get(each) for each in _SIZE]}"


def _at_first(live: _Live, error: Exception) -> Exception | None:
    """What stands for an error of a request's first forward, if several pictures are its cause."""
    uploads = live.call.inputs.uploads
    if live.denoising is None or live.denoising.step > 0 or len(uploads) < 2:
        return None
    from roles.split.request.refusals import of_first_forward  # imports diffusers

    return of_first_forward(error, uploads)


def _steps_of(group: list[_Live], share: int) -> str:
    """The kind of a turn of steps: what it computes, and how many calls go into a forward."""
    count = sum(len(live.branches) for live in group)
    return f"{group[0].key_of_forwards if group else None} {min(share or count, count)}"


def _files(
    samples: list[Sample], inputs: Inputs, making: Making, threads: int, speed: str | None
) -> list[Encoded]:
    files: list[Encoded] = []
    try:
        for sample in samples:
            file = encode(sample, inputs.output, making, threads)
            files.append(file)
            file.facts = replace(file.facts, speed=speed, seed=inputs.seed)
    except BaseException:
        for file in files:
            file.close()
        raise
    return files


def _finished(key: Key, making: Pending) -> Outcome:
    if making.cancelled():
        return Outcome(*key, error=ErrorInfo("cancelled", "it was dropped before it was encoded"))
    if (error := making.exception()) is not None:
        return Outcome(*key, error=error_info(error))
    finished = making.result()
    media = [file.facts for file in finished.files]
    return Outcome(*key, done=True, media=media, compute_s=finished.seconds)


def error_info(error: BaseException) -> ErrorInfo:
    """What is told about an error of one request. Only a surprise has a traceback."""
    match error:
        case BadInput():
            return ErrorInfo("invalid_request", shorten(str(error)), param=error.param)
        case Unencodable():
            return ErrorInfo("invalid_request", shorten(str(error)), param="output_format")
        case NoPreview():
            return ErrorInfo("unsupported", shorten(str(error)))
        case Unavailable():
            return ErrorInfo("unsupported", shorten(str(error)), param=error.param)
        case Unsplittable():
            return ErrorInfo("unsupported", shorten(str(error)))
        case AdapterGone():
            return ErrorInfo("rank_failed", shorten(str(error)))
        case NoRoom() | NotFinite():
            return ErrorInfo("rank_failed", shorten(str(error)))
        case PayloadError():
            return ErrorInfo("payload", shorten(str(error)))
    text = "".join(traceback.format_exception(error))
    message = f"{type(error).__name__}: {error}"
    return ErrorInfo("rank_failed", shorten(message), traceback=shorten(text))
