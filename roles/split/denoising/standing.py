"""A pipeline in a greenlet of its own, which stands still where it wants a model's forward.

What a denoiser's coroutine (`roles.split.denoising.door`) and an encoder's generation
(`roles.split.encoding.generation`) have in common: how they start, end, are cancelled, and give
their result.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from roles.split.program import Cancelled
from roles.split.randomness import GlobalRandomness


class Standing:
    """`run()` runs the pipeline and returns its result; where it waits, it calls `_wait`. All that
    happens in it draws from the request's own `randomness`. `leave` is called once, when it has
    ended in whichever way."""

    def __init__(
        self,
        request: str,
        run: Callable[[], Any],
        randomness: GlobalRandomness,
        leave: Callable[[], None],
    ) -> None:
        self.request = request
        self.pending: tuple[Any, ...] = ()
        self.done = False
        self._randomness = randomness
        self._leave = leave
        self._result: Any = None
        self._error: BaseException | None = None
        self._fresh = True
        self._greenlet = greenlet(run)

    def start(self) -> None:
        assert self._fresh, "started already"
        self._fresh = False
        self._switch(self._greenlet.switch)

    def cancel(self) -> None:
        if self.done:
            return
        if not self._fresh:
            self._switch(self._greenlet.throw, _Leave)
        self._end(Cancelled(f"request {self.request} was cancelled"))

    def result(self) -> Any:
        assert self.done, "still running"
        if self._error is not None:
            raise self._error
        return self._result

    def _wait(self, calls: tuple[Any, ...]) -> Any:
        """In the pipeline: what these forwards give."""
        self.pending = calls
        try:
            return getcurrent().parent.switch()
        finally:
            self.pending = ()

    def _switch(self, switch: Callable[..., Any], *args: Any) -> None:
        self._greenlet.parent = getcurrent()
        try:
            with self._in_place():
                result = switch(*args)
        except _Leave:
            return
        except Exception as error:
            self._end(error)
            return
        if self._greenlet.dead:
            self._result = result
            self._end(self._left_behind())

    def _in_place(self) -> contextlib.AbstractContextManager[Any]:
        """What the pipeline finds as it has left it."""
        return self._randomness.in_place()

    def _left_behind(self) -> Exception | None:
        """Why it should not have ended."""
        return None

    def _end(self, error: BaseException | None) -> None:
        if not self.done:
            self.done, self._error = True, error
            self._clean_up()
            self._leave()

    def _clean_up(self) -> None:
        """What it kept elsewhere."""


class _Leave(BaseException):
    """Thrown into a cancelled pipeline; no `except Exception` of its own catches it."""
