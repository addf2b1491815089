"""A rank's process: its threads, its signals, and the loop that answers calls one by one."""

import argparse
import contextlib
import importlib
import logging
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import torch

from roles.calls import (
    Act,
    Begin,
    Call,
    Collect,
    Drop,
    Frames,
    Load,
    Loaded,
    Meanwhile,
    Outcome,
    Outcomes,
    Peek,
    Reply,
    Run,
    Shutdown,
    StepDone,
    Store,
    Value,
    Warm,
    call_decoder,
    frame,
    shorten,
)
from roles.cores import Cores, OwnCores
from roles.logs import configure
from roles.origins import NOTHING, read
from roles.parallel import divide
from roles.rank import device
from roles.rank.health import Health
from roles.rank.profiling import Profiling
from roles.rank.runner import Runner
from roles.refusals import Unsupported
from roles.split.encoding.encodings import Encodings
from roles.split.program import ModelError, Program
from roles.split.weights.adapters import Adapters
from transfer import actions
from transfer.pool import SlotPool
from transfer.results import RankError

if TYPE_CHECKING:
    from roles.rank.world import World

log = logging.getLogger(__name__)

APART = 3  # the exit code of a rank that has lost the others
RECEIVE_BYTES = 1 << 16
BREATH_MS = 5


def work(options: argparse.Namespace) -> int:
    """Serves one leader until it hangs up or says Shutdown. The exit code of the process."""
    # Ctrl-C is for the leader, which drains; SIGTERM ends a rank, and only its leader sends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure()
    torch.set_num_threads(options.threads)
    # Once, outside of all pipelines: their own no_grad contexts would unwind across coroutines.
    torch.set_grad_enabled(False)
    device.take(options.device)
    with (
        socket.socket(fileno=options.fd) as channel,
        _slots(options) as pool,
        contextlib.suppress(ConnectionError),  # the leader is gone, and nobody waits for answers
    ):
        worker = Worker(channel, pool, options)
        worker.serve()
        if worker.apart:
            os._exit(APART)  # torch would wait for what the other ranks never do
    return 0


class Worker:
    """The loop of one rank: a call comes, is done, and is answered; beside it there are only the
    threads that make media files, and answer `Collect`.

    Blocking on purpose: no event loop and no thread stands between the leader and the device. What
    a call raises is its answer, and the loop goes on.
    """

    def __init__(
        self, channel: socket.socket, pool: SlotPool | None, options: argparse.Namespace
    ) -> None:
        self._channel = channel
        self._pool = pool
        self._options = options
        self._cores = _cores(options)
        self._runner: Runner | None = None
        self._health = Health(options.device)
        on_gpu = options.device.startswith("cuda")
        self._settle = torch.cuda.synchronize if on_gpu else _nothing
        self._profiling = Profiling(options.device, self._settle)
        self._call = 0  # the number of the one that it is at work on
        self._world: World | None = None
        self.apart = False
        self._sending = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        frames = Frames()
        while data := self._receive():
            self._waiting.extend(frames.feed(data))
            while self._waiting:
                call = cast(Call, call_decoder.decode(self._waiting.popleft()))
                if isinstance(call, Shutdown):
                    if self._world is not None:
                        self._world.leave()
                    return
                if (reply := self._answer(call)) is not None:
                    self._send(reply)
                self._end_profile()
                if self.apart:
                    return

    def _receive(self) -> bytes:
        """What comes next. Between two units of work the leader takes a moment to decide; only who
        waits for longer has nothing to do, or cores would change hands all the time."""
        if not self._poll.poll(BREATH_MS):
            self._cores.rest()
        return self._channel.recv(RECEIVE_BYTES)

    def _wanted(self) -> bool:
        """Whether the leader has said something more, or the turn's threads are too many now."""
        return bool(self._waiting) or bool(self._poll.poll(0)) or self._cores.changed()

    def _send(self, message: Reply | Meanwhile) -> None:
        with self._sending:
            self._channel.sendall(frame(message))

    def _tell_steps(self, steps: list[StepDone]) -> None:
        self._send(Meanwhile(self._call, steps))

    def _tell_warmed(self, done: int, count: int) -> None:
        if self._options.rank == 0:
            self._send(Meanwhile(self._call, warmed=(done, count)))

    def _answer(self, call: Call) -> Reply | None:
        """The answer; None if it comes later."""
        began = time.perf_counter()
        try:
            if isinstance(call, Collect):
                self._collect(call)
                return None
            value, error = self._do(call), None
        except Exception as reason:
            value, error = None, _error(reason, starting=isinstance(call, Load | Warm))
        except BaseException as reason:
            if not _is_apart(reason):
                raise
            value, error, self.apart = None, _left(reason), True
        seconds = time.perf_counter() - began
        return Reply(call.call, error is None, value, error, seconds)

    def _end_profile(self) -> None:
        """A recording whose time is over ends, whatever becomes of it."""
        try:
            self._profiling.look()
        except Exception as error:
            log.error("what was recorded is lost: %s", error)

    def _collect(self, call: Collect) -> None:
        def answer(outcome: Outcome) -> None:
            with contextlib.suppress(OSError):  # the loop hears of that by itself
                self._send(Reply(call.call, True, Outcomes([outcome]), None, outcome.compute_s))

        self._ready().collect((call.request, call.attempt), answer)

    def _do(self, call: Call) -> Value:
        self._call = call.call
        match call:
            case Load():
                return self._load(call)
            case Warm():
                self._ready().warm(self._tell_warmed)
            case Begin():
                self._cores.work()
                return self._ready().begin(call)
            case Peek():
                return self._ready().peek(call)
            case Run():
                self._cores.work()
                ran = self._ready().run(call)
                self._health.computed()
                return ran
            case Act():
                return self._act(call.action)
            case Store():
                return self._ready().store(call)
            case Drop():
                self._ready().drop((call.request, call.attempt))
        return None

    def _act(self, action: actions.Action) -> actions.Told:
        runner = self._ready()
        if isinstance(action, actions.LoadLora | actions.UnloadLora):
            runner.check_awake()
        match action:
            case actions.Health():
                return self._health.report(runner.requests)
            case actions.LoadLora(name, path):
                return self._adapters().load(name, path)
            case actions.UnloadLora(name):
                return self._adapters().unload(name)
            case actions.ListLoras():
                return self._adapters().loaded
            case actions.Sleep(level):
                return runner.sleep(level)
            case actions.Wake():
                return runner.wake()
            case actions.UpdateWeights() | actions.PutWeights():
                return runner.update(action)
            case actions.Profile():
                return self._profiling.act(action)

    def _adapters(self) -> Adapters:
        adapters = self._ready().program.adapters
        if adapters is None:
            raise Unsupported("this model takes no adapters")
        return adapters

    def _load(self, call: Load) -> Loaded:
        if (why_not := device.refusal(self._options.device)) is not None:
            raise ModelError(why_not)
        if self._options.parallel is None:
            program = self._program(call)
        else:
            self._world = _join(self._options)
            program = self._world.together(lambda: self._program(call))
            self._world.patience_s = self._options.patience
        if self._options.encoder_cache and "encoder" in call.roles:
            program.encodings = Encodings(self._options.encoder_cache, program.info.fingerprint)
        self._runner = Runner(
            program,
            self._pool,
            self._options.rank,
            self._options.threads,
            settle=self._settle,
            slice_s=self._options.slice,
            wanted=self._wanted,
            cores=self._cores,
            tell=self._tell_steps,
            world=self._world,
        )
        parts = [] if program.exchange is None else program.exchange.components
        adaptable = [] if program.adapters is None else program.adapters.components
        return Loaded(program.info, parts, adaptable)

    def _program(self, call: Load) -> Program:
        module, _, function = self._options.program.partition(":")
        load = getattr(importlib.import_module(module), function)
        own: dict[str, Any] = {} if call.speed is None else {"speed": call.speed}
        if self._world is not None and self._world.parallel.loads:
            own["world"] = self._world
        here = self._options.model is not None
        model = self._options.model if here else call.model
        origins = read(self._options.origins) if here else call.origins or NOTHING
        if origins != NOTHING:
            own["origins"] = origins
        program: Program = load(model, call.roles, call.dtype, self._options.device, **own)
        return program

    def _ready(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("no model is loaded")
        return self._runner


def _cores(options: argparse.Namespace) -> Cores | OwnCores:
    if options.cores_file is None or options.device != "cpu":
        return OwnCores(options.threads)
    return Cores(options.threads, options.cores, options.cores_file)


def _join(options: argparse.Namespace) -> "World":
    from roles.rank.world import World  # which a rank that is alone has no use for

    parallel = divide(options.parallel, options.ranks)
    if options.life is None:
        return World.join(options.rank, parallel, options.join_fd, options.device)
    from roles.nodes.joining import join

    return join(options, parallel)


def _slots(options: argparse.Namespace) -> contextlib.AbstractContextManager[SlotPool | None]:
    """The leader's, if it is on this host."""
    if options.pool_fd is None:
        return contextlib.nullcontext()
    return SlotPool.attach(options.pool_fd)


def _left(reason: BaseException) -> RankError:
    """As of a rank that has died, because this one is about to end."""
    message = f"gave up: {reason}"
    log.error("this rank %s", message)
    return RankError(kind="died", type=type(reason).__name__, message=shorten(message))


def _is_apart(error: BaseException) -> bool:
    return type(error).__name__ == "RanksApart"


def _nothing() -> None:
    """A CPU has done what it was told when the call returns."""


def _error(error: Exception, starting: bool) -> RankError:
    """At the start a ModelError speaks to the user: a traceback would only hide its sentence."""
    if isinstance(error, Unsupported):
        return RankError("unsupported", "unsupported", shorten(str(error)))
    text = "".join(traceback.format_exception(error))
    return RankError(
        kind="raised",
        type=type(error).__name__,
        message=shorten(str(error)),
        traceback=None if starting and isinstance(error, ModelError) else shorten(text),
    )
