"""Virtual time: an event loop whose clock jumps to the next timer, and processes that live in it.

No thread, no socket and no waiting: a minute of a cluster's life takes as long as its events take.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal

LIFE: ContextVar["Life | None"] = ContextVar("LIFE", default=None)


class Life:
    """A process of the operating system, as far as the scheduler knows it. What was started in its
    context runs only while it does: SIGSTOP holds everything back, SIGKILL is the end of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.process: Any = None  # whose life it is
        self.state: Literal["running", "stopped", "dead"] = "running"
        self.tasks: list[asyncio.Task[Any]] = []
        self.signals: dict[int, Callable[[], None]] = {}
        self.context = copy_context()
        self.context.run(LIFE.set, self)
        self._held: deque[_Due] = deque()

    @property
    def alive(self) -> bool:
        return self.state != "dead"

    def hold(self, due: "_Due") -> None:
        self._held.append(due)

    def stop(self) -> None:
        if self.state == "running":
            self.state = "stopped"

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """SIGCONT: first what should have happened meanwhile, in order."""
        if self.state == "stopped":
            self.state = "running"
            held, self._held = self._held, deque()
            for due in held:
                loop.call_soon(due.late, context=due.context)

    def kill(self) -> None:
        self.state = "dead"

    def put_away(self, loop: asyncio.AbstractEventLoop) -> None:
        """The simulation is over, and every task has to be brought to its end."""
        if self.state == "dead":
            self.state = "stopped"
        self.wake(loop)


class _Due:
    """A callback that runs if its process does."""

    __slots__ = ("args", "callback", "context", "handle", "life")

    def __init__(self, life: Life, callback: Any, args: tuple[Any, ...], context: Context) -> None:
        self.life, self.callback, self.args, self.context = life, callback, args, context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.life.state == "running":
            self.callback(*self.args)
        else:
            self.life.hold(self)

    def late(self) -> None:
        """After the process was woken, unless it has cancelled this since."""
        assert self.handle is not None
        if not self.handle.cancelled():
            self()


class _Sleep:
    """What the loop takes for a selector: nothing ever comes from outside, so time passes."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self._loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in an order that depends on nothing but the program."""

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)
        self.now = 0.0
        self._selector = _Sleep(self)
        self._clock_resolution = 1e-9
        self.set_task_factory(_task)

    def time(self) -> float:
        return self.now

    def call_soon(self, callback, *args, context=None):  # type: ignore[no-untyped-def]
        due, context = _due(callback, args, context)
        handle = super().call_soon(*due, context=context)
        return _known(due, handle)

    def call_at(self, when, callback, *args, context=None):  # type: ignore[no-untyped-def]
        due, context = _due(callback, args, context)
        handle = super().call_at(when, *due, context=context)
        return _known(due, handle)

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[no-untyped-def]
        return self.call_at(self.now + max(0.0, delay), callback, *args, context=context)

    def call_soon_threadsafe(self, callback, *args, context=None):  # type: ignore[no-untyped-def]
        raise RuntimeError("there are no threads here")

    def run_in_executor(self, executor, func, *args):  # type: ignore[no-untyped-def]
        raise RuntimeError("there are no threads here")

    def add_signal_handler(self, sig, callback, *args):  # type: ignore[no-untyped-def]
        life = LIFE.get()
        assert life is not None
        life.signals[sig] = lambda: callback(*args)

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


def _due(callback: Any, args: tuple[Any, ...], context: Context | None) -> tuple[Any, Context]:
    """The callback and its arguments, tied to the life of its context, if that has one."""
    context = copy_context() if context is None else context
    life = context.get(LIFE)
    if life is None:
        return (callback, *args), context
    return (_Due(life, callback, args, context),), context


def _known(due: tuple[Any, ...], handle: asyncio.Handle) -> asyncio.Handle:
    if isinstance(due[0], _Due):
        due[0].handle = handle
    return handle


def _task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    context: Context | None = None,
    **_: Any,
) -> "asyncio.Task[Any]":
    """Remembers whose task it is: those of a killed process have to be put away in the end."""
    task = asyncio.Task(coroutine, loop=loop, context=context)
    life = LIFE.get() if context is None else context.get(LIFE)
    if life is not None:
        life.tasks.append(task)
        if len(life.tasks) > 200:
            life.tasks = [known for known in life.tasks if not known.done()]
    return task
