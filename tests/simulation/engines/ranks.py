"""Rank processes with scripted compute: they take virtual time, fail, hang and die."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import xxhash
from msgspec.structs import replace

from roles.calls import (
    Act,
    Begin,
    Call,
    Collect,
    Drop,
    Frames,
    Key,
    Load,
    Loaded,
    Marked,
    Meanwhile,
    MediaFile,
    Outcome,
    Outcomes,
    Peek,
    Reply,
    Run,
    Shutdown,
    StepDone,
    Store,
    Stored,
    Value,
    call_decoder,
    frame,
)
from roles.leader.scheduler import SINGLE_UNIT
from tests.simulation.engines import compute
from tests.simulation.engines.clock import LIFE
from tests.simulation.questions import Held, do, parts_of
from transfer.actions import Action, PutWeights, Told, UpdateWeights
from transfer.header import HEADER_BYTES
from transfer.made import ImageMade
from transfer.messages import SPLIT_ROUTE, ErrorInfo, Inputs, Role
from transfer.results import RankError

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process

POISON = "poison"
SLICE = 3  # steps at a time of a rank that is alone
STEP_S = 0.01


@dataclass
class Live:
    """A request in a rank's memory. `value`: what it has read, then what it has computed."""

    role: Role
    inputs: Inputs
    value: bytes
    step: int = 0
    steps: int = 0
    done: bool = False
    marked: bool = False
    checkpoint: bytes | None = None  # the body of the latest


class Rank:
    """`roles.leader.process.RankProcess`, and the process behind it."""

    def __init__(
        self,
        rank: int,
        on_frame: Callable[[int, bytes], None],
        on_death: Callable[[int], None],
    ) -> None:
        life = LIFE.get()
        assert life is not None
        self.rank = rank
        self.pid = 0
        self.host = "here"
        self.death: str | None = None
        self.live: dict[Key, Live] = {}
        self._process = cast("Process", life.process)
        self.held = Held(parts=parts_of(self._process.roles))
        self._world = self._process.world
        self._on_frame, self._on_death = on_frame, on_death
        self._frames, self._answers = Frames(), Frames()
        self._calls: deque[Call] = deque()
        self._epochs: dict[int, int] = {}  # number of a call → the leader's epoch when it made it
        self._busy = self._hung = False
        self._gone = self._world.loop.create_future()

    # ------------------------------------------------------------ what the pool asks of it

    async def start(self, command: object) -> None:
        self.pid = self._world.new_pid()
        self._process.ranks.append(self)

    def send(self, data: bytes) -> None:
        if self.death is None:
            for one in self._frames.feed(data):
                call = cast(Call, call_decoder.decode(one))
                self._calls.append(call)
                self._epochs[call.call] = self._process.epoch
            self._go_on()

    def signal(self, number: signal.Signals) -> None:
        self.die(f"died of {number.name}")

    async def gone(self, seconds: float) -> bool:
        await asyncio.wait([self._gone], timeout=seconds)
        return self._gone.done()

    def die(self, how: str) -> None:
        """At once; the leader hears of it in its own time."""
        if self.death is None:
            self.death = how
            self._calls.clear()
            self.live.clear()
            if self in self._process.ranks:
                self._process.ranks.remove(self)
            self._later(0.001, self._reaped, self._process.life.context)

    def hang(self) -> None:
        self._hung = True

    def _reaped(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._on_death(self.rank)

    # ------------------------------------------------------------ one call after the other

    def _go_on(self) -> None:
        if not self._busy and self._calls:
            self._busy = True
            self._later(self._seconds(self._calls[0]), self._work)

    def _seconds(self, call: Call) -> float:
        dice = self._world.dice
        if isinstance(call, Load):
            return dice.choice([0.1, 1.0])
        return dice.random() * dice.choice([0.0005, 0.01, 0.1]) * self._process.slowness

    def _work(self) -> None:
        """The call has taken its time; its effect is there now."""
        if self.death is not None or self._hung:
            return
        if self._process.life.alive and self._accident(self._calls[0]):
            return
        call = self._calls.popleft()
        if isinstance(call, Shutdown):
            self.die("exited with code 0")
            return
        try:
            value, error = self._do(call), None
        except RuntimeError as reason:
            value, error = None, RankError("raised", type(reason).__name__, str(reason))
        reply = frame(Reply(call.call, error is None, value, error))
        if isinstance(call, Collect):  # files are made beside whatever else the rank does
            self._later(self._seconds(call), self._reply, None, reply)
        else:
            self._reply(reply)
        self._busy = False
        self._go_on()

    def _reply(self, reply: bytes) -> None:
        if self.death is None and not self._hung:
            context = self._process.life.context
            self._later(0.0005 * self._world.dice.random(), self._answer, context, reply)

    def _answer(self, reply: bytes) -> None:
        for one in self._answers.feed(reply):
            self._on_frame(self.rank, one)

    def _accident(self, call: Call) -> bool:
        if self._poisoned(call) or (
            not isinstance(call, Load) and self._world.strikes("rank death")
        ):
            self.die("died of SIGSEGV")
        elif not isinstance(call, Load) and self._world.strikes("rank hang"):
            self.hang()
        else:
            return False
        return True

    def _poisoned(self, call: Call) -> bool:
        if not isinstance(call, Run) or call.unit != "step":
            return False
        lives = [self.live.get(key) for group in call.groups for key in group]
        poisoned = [x for x in lives if x and x.inputs.params["prompt"] == POISON]
        return any(live.role != "encoder" for live in poisoned)

    def _later(self, seconds: float, action: Any, context: Any = None, *args: Any) -> None:
        at = self._world.loop.now + seconds
        context = self._world.nobody if context is None else context
        self._world.loop.call_at(at, action, *args, context=context)

    # ------------------------------------------------------------ calls

    def _do(self, call: Call) -> Value:
        self._world.note(self._process, call)
        match call:
            case Load():
                if self._world.strikes("load"):
                    raise RuntimeError("no such file")
                model = replace(self._process.model, generates=["writer"])
                return Loaded(model, self.held.parts, self.held.adaptable)
            case Begin():
                return Outcomes([self._begin(call)])
            case Peek():
                return Outcomes([self._peek(call)])
            case Run(unit=unit, groups=groups):
                for key in [key for key in call.marked if key in self.live]:
                    self.live[key].marked = True
                keys = [key for group in groups for key in group]
                return Outcomes([self._run(call.call, key, unit) for key in keys])
            case Act():
                if self._world.strikes("rank error"):
                    raise RuntimeError("scripted")
                return self._act(call.action)
            case Store():
                return self._store(call)
            case Collect():
                return Outcomes([self._collect(call)])
            case Drop(request=request, attempt=attempt):
                self.live.pop((request, attempt), None)
        return None

    def _act(self, action: Action) -> Told:
        amid = [key for key, live in self.live.items() if live.steps and not live.done]
        if amid and isinstance(action, UpdateWeights | PutWeights):
            raise RuntimeError(f"{amid} are being denoised")
        return do(action, self.held)

    def _known(self, key: Key, what: str) -> Live:
        if key not in self.live:
            self._world.wrong(f"{self._process}: {what} of {key}, which its rank does not know")
            raise RuntimeError("unknown")
        return self.live[key]

    def _failed(self, key: Key, error: ErrorInfo) -> Outcome:
        del self.live[key]
        return Outcome(*key, error=error)

    @property
    def _weights(self) -> str:
        return compute.weights(self._process.model.name, self.held.shared)

    def _begin(self, call: Begin) -> Outcome:
        key = (call.request, call.attempt)
        if self.held.level:
            self._world.wrong(f"{self._process}: {key} begins while its rank sleeps")
        if key in self.live:
            self._world.wrong(f"{self._process}: {key} begins again")
        live = self.live[key] = Live(call.role, call.inputs, compute.first(call.inputs))
        if call.delivery is not None:
            if self._epochs[call.call] == self._process.epoch:
                self._world.reads(self._process, call)
            segments = self._process.pool.segments(call.delivery.slots, call.delivery.nbytes)
            data = b"".join(segments)[HEADER_BYTES:]
            value = compute.read(data, call.delivery.checksum)
            if value is None:
                return self._failed(key, ErrorInfo("payload", "another checksum was announced"))
            live.value = value
            live.step, live.steps = compute.midway(data) or (0, 0)
        if call.role not in SINGLE_UNIT:
            if self.held.worn(call.inputs.loras) is None:
                return self._failed(key, ErrorInfo("rank_failed", "an adapter is not there"))
            live.steps = live.steps or self._steps(live)
        if self._world.strikes("rank error"):
            return self._failed(key, ErrorInfo("rank_failed", "scripted"))
        return Outcome(*key, step=live.step, steps=live.steps)

    def _steps(self, live: Live) -> int:
        if live.role == "monolithic":
            worn = self.held.worn(live.inputs.loras) or ""
            live.value = compute.then(live.value, "encoder", self._with("encoder", worn))
        return compute.steps(live.value)

    def _with(self, role: Role, worn: str) -> str:
        """The weights that a stage computes with, and the adapters that it has on them."""
        return self._weights + (worn if role == "encoder" else "")

    def _peek(self, call: Peek) -> Outcome:
        key, shown = (call.request, call.attempt), self.live.get((call.of, call.of_attempt))
        if shown is None or shown.done or not shown.step or self._world.strikes("rank error"):
            return Outcome(*key, error=ErrorInfo("unsupported", "there is nothing to see"))
        value = compute.preview(shown.value)
        if whole := shown.role == "monolithic":
            value = compute.then(value, "decoder", self._weights)
        self.live[key] = Live(shown.role, shown.inputs, value, shown.step, shown.steps, done=True)
        return Outcome(*key, done=True, nbytes=None if whole else compute.size(value))

    def _run(self, call: int, key: Key, unit: str) -> Outcome:
        live = self._known(key, unit)
        denoises = unit == "step" and live.role != "encoder"
        worn = "" if live.role == "decoder" else self.held.worn(live.inputs.loras)
        if worn is None:
            return self._failed(key, ErrorInfo("rank_failed", "an adapter is not there"))
        if self._world.strikes("rank error"):
            return self._failed(key, ErrorInfo("rank_failed", "scripted"))
        if unit == "encode" and (words := compute.words(live.value)):
            live.step, live.steps = 1, words
        if unit == "step":
            marked = None
            taken = self._slice(live.steps - live.step)
            for _ in range(taken):
                if denoises:
                    live.value = compute.step(live.value, self._weights + worn)
                live.step += 1
                marked = self._checkpoint(live) or marked
                self._tell(call, StepDone(*key, live.step, live.steps))
            if live.step < live.steps:
                return Outcome(
                    *key,
                    step=live.step,
                    steps=live.steps,
                    compute_s=STEP_S * taken,
                    checkpoint=marked,
                )
        if unit == "encode" and live.step < live.steps:  # it goes on to write
            return Outcome(*key, step=live.step, steps=live.steps, compute_s=STEP_S)
        roles = SPLIT_ROUTE[1:] if live.role == "monolithic" else (live.role,)
        for role in roles:
            live.value = compute.then(live.value, role, self._with(role, worn))
        live.done = True
        last = live.role in ("decoder", "monolithic")
        return Outcome(
            *key,
            done=True,
            step=live.step,
            steps=live.steps,
            nbytes=None if last else compute.size(live.value),
        )

    def _tell(self, call: int, done: StepDone) -> None:
        """Of a unit that is still being done; it may come late, or never."""
        if self.rank == 0 and self._world.dice.random() < 0.5:
            self._reply(frame(Meanwhile(call, [done])))

    def _checkpoint(self, live: Live) -> Marked | None:
        """What comes of a mark at the end of a step."""
        if not live.marked or live.role != "denoiser" or live.step >= live.steps:
            return None
        live.marked = False
        live.checkpoint = compute.checkpoint(live.value, live.step, live.steps)
        return Marked(live.step, HEADER_BYTES + len(live.checkpoint))

    def _collect(self, call: Collect) -> Outcome:
        key = (call.request, call.attempt)
        live = self._known(key, "Collect")
        if not live.done:
            self._world.wrong(f"{self._process}: Collect of {key} before it is decoded")
        if self._world.strikes("rank error"):
            return Outcome(*key, error=ErrorInfo("rank_failed", "scripted"))
        return Outcome(*key, done=True, media=self._pictures(live))

    def _slice(self, left: int) -> int:
        """Steps that are taken in one go, if nothing else is wanted meanwhile."""
        alone = self._process.options.ranks == 1 and len(self._calls) == 0
        return min(left, self._world.dice.randint(1, SLICE) if alone else 1)

    def _pictures(self, live: Live) -> list[MediaFile]:
        """Only the first rank writes files."""
        if self.rank:
            return []
        return [MediaFile(self._world.new_file(live.value.hex()), ImageMade(), "image/png", 5)]

    def _store(self, call: Store) -> Stored:
        key = (call.request, call.attempt)
        if call.checkpoint and key not in self.live:
            raise RuntimeError("it has failed, or is stored, since the checkpoint was made")
        live = self._known(key, "Store")
        if call.checkpoint:
            data, live.checkpoint = live.checkpoint or b"", None
        else:
            data = compute.body(live.value)
            if not live.done:
                self._world.wrong(f"{self._process}: Store of {key} before it is computed")
            del self.live[key]
        if self.rank:
            return Stored(None)
        at, skip = 0, HEADER_BYTES
        for segment in self._process.pool.segments(call.slots, HEADER_BYTES + len(data)):
            room = segment[skip:]
            room[:] = data[at : at + len(room)]
            at, skip = at + len(room), 0
        return Stored(xxhash.xxh3_64_intdigest(data))
