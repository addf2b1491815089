"""What is asked of an instance: passed on to every rank, and answered in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from msgspec.structs import replace

from roles.calls import Act, Value
from roles.leader.door import Door
from roles.leader.fittings import Fittings
from roles.leader.pool import Results
from transfer.actions import (
    Change,
    LoadLora,
    LoraLoaded,
    Profile,
    PutWeights,
    Sleep,
    UnloadLora,
    UpdateWeights,
    Wake,
    WeightsUpdated,
    method_of,
)
from transfer.codec import Message
from transfer.messages import Answered, Ask, RankInfo
from transfer.results import PoolResult, RankError, RankResult

UNDO_S = 30.0  # for the ranks to go back
REREAD_S = 300.0  # for the weights that they had


_CAUSE = {
    LoadLora: "its adapters",
    UnloadLora: "its adapters",
    Sleep: "it was asked to sleep",
    Wake: "it was asked to wake",
    UpdateWeights: "its weights",
    PutWeights: "its weights",
}


class Asked:
    """Answers each `Ask` with one `Answered`, by its deadline and at once if ranks die meanwhile.

    A rank comes to it between two of its units. One that is amid a long forward is named as silent
    when the time is over, and nothing else happens to it: what it says later is dropped. Neither
    requests nor aborts wait for any of this. `ranks`: who they are at this moment.

    Changes are made one after the other, and by all ranks or none: if some did and others did not,
    or did not say, it is undone in all of them, which may go on after the answer. If that fails
    too, `diverged` is called with the rank and why: these ranks are not one instance any more.
    `changed` is called after each change, whatever came of it, and before the ranks fall asleep,
    wake up, or get other weights.
    """

    def __init__(
        self,
        door: Door,
        fittings: Fittings,
        send: Callable[[Message], None],
        ranks: Callable[[], list[RankInfo]],
        changed: Callable[[str], None],
        diverged: Callable[[int, str], None],
    ) -> None:
        self._door = door
        self._fittings = fittings
        self._send = send
        self._ranks = ranks
        self._changed = changed
        self._diverged = diverged
        self._turn = asyncio.Lock()
        self._waiting: dict[tuple[int, int], Ask] = {}  # those without an answer, by epoch, number
        self.tasks: set[asyncio.Task[None]] = set()

    def ask(self, ask: Ask) -> None:
        """Returns at once."""
        self._waiting[ask.epoch, ask.number] = ask
        self._begin(self._answer(ask))

    async def close(self) -> None:
        """The instance is closing: whoever waits for an answer is told so at once."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in list(self._waiting.values()):
            text = "gives no answer: its instance is closing"
            self._tell(ask, self._all("closed", "InstanceClosing", text))

    def _begin(self, work: "asyncio._CoroutineLike[None]") -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _answer(self, ask: Ask) -> None:
        if isinstance(ask.action, Change):
            result = await self._change(ask.action, ask.seconds)
        elif isinstance(ask.action, Profile):
            result = await self._profile(ask.action, ask.seconds)
        else:
            result = await self._door.ask(Act(ask.action), ask.seconds)
        self._tell(
            ask, result or self._all("closed", "PoolStarting", "was not asked: it is being started")
        )

    def _tell(self, ask: Ask, result: Results) -> None:
        self._waiting.pop((ask.epoch, ask.number), None)
        self._send(Answered(ask.epoch, ask.number, result))  # type: ignore[arg-type]

    async def _profile(self, action: Profile, seconds: float) -> Results | None:
        """All ranks record, or none."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if action.action == "record" and seconds <= action.seconds:
            text = f"was not asked: {action.seconds:g} s are more than the call has"
            return self._all("closed", "NotBegun", text)
        if action.action == "stop":
            return await self._door.ask(Act(action), seconds)
        stop = Act(replace(action, action="stop"))
        result = await self._door.ask(Act(replace(action, action="start")), seconds)
        if result is not None and not result.ok and _any_changed(result):
            self._begin(self._stop(stop))  # those that do not record say so, which is no matter
        if result is None or not result.ok or action.action == "start":
            return result
        await asyncio.sleep(action.seconds)
        return await self._door.ask(stop, until - loop.time())

    async def _stop(self, stop: Act) -> None:
        await self._door.ask(stop, UNDO_S)

    # ------------------------------------------------------------ changes

    async def _change(self, action: Change, seconds: float) -> Results | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
        except TimeoutError:
            return self._all("closed", "NotBegun", "was not asked: another change goes first")
        made: asyncio.Future[Results | None] = loop.create_future()
        task = self._begin(self._make(action, until, made))
        await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
        return await made

    async def _make(
        self, action: Change, until: float, made: "asyncio.Future[Results | None]"
    ) -> None:
        """`made` is what the ranks made of it, by then; what follows goes on."""
        async with self._changing(action):
            try:
                result = await self._do(action, until)
            except BaseException:
                made.cancel()
                raise
            made.set_result(result)
            if result is None or _began_anew(result):
                return
            if result.ok:
                self._fittings.note(action, result)
            elif _any_changed(result):
                await self._undo(action)

    @contextlib.asynccontextmanager
    async def _changing(self, action: Change) -> AsyncIterator[None]:
        self._fittings.changing = action
        if isinstance(action, Sleep | Wake | UpdateWeights | PutWeights):
            self._changed(f"it was asked to {method_of(action)}")
        try:
            yield
        finally:
            self._fittings.changing = None
            self._turn.release()
            self._changed(_CAUSE[type(action)])

    async def _do(self, action: Change, until: float) -> Results | None:
        loop = asyncio.get_running_loop()
        if isinstance(action, LoadLora) and not self._fittings.has(action):
            # what a change left behind whose end nobody waited for
            clear = UnloadLora(action.name)
            cleared = await self._door.ask(Act(clear), until - loop.time())
            if cleared is None or not cleared.ok:
                return None if cleared is None else _not_begun(cleared)
            self._fittings.note(clear, cleared)
        result = await self._door.ask(Act(action), until - loop.time())
        return None if result is None else _compared(result)

    async def _undo(self, action: Change) -> None:
        back = self._fittings.back(action)
        if back is None:
            return  # it was so before, and is
        seconds = REREAD_S if isinstance(back, PutWeights) else UNDO_S
        result = await self._door.ask(Act(back), seconds)
        if result is None or result.ok or _began_anew(result):
            return
        worst = result.failures[0]
        self._diverged(worst.rank, f"cannot go back from {action}: {worst}")

    def _all(self, kind: str, type: str, text: str) -> Results:
        """There are no ranks to be asked at this moment."""
        error = RankError(kind, type, text)  # type: ignore[arg-type]
        ranks = self._ranks()
        told = (RankResult[Value](x.rank, x.pid, False, None, error, 0.0, x.host) for x in ranks)
        return PoolResult(tuple(told))


def _compared(result: Results) -> Results:
    """Ranks on several hosts may have found different files at one path: that is no success."""
    found = {_contents(each.value) for each in result.results}
    if not result.ok or len(found) < 2:
        return result
    error = RankError("raised", "FilesDiffer", "the ranks have loaded different files")
    return PoolResult(tuple(replace(each, ok=False, error=error) for each in result.results))


def _contents(value: Value) -> frozenset[tuple[str, str]]:
    """Which files a rank has loaded."""
    match value:
        case LoraLoaded(lora=lora):
            return frozenset({(lora.name, lora.digest)})
        case WeightsUpdated(weights=weights):
            return frozenset((each.component, each.digest) for each in weights)
    return frozenset()


def _not_begun(cleared: Results) -> Results:
    """Some ranks did not even forget what they had: nobody was asked to load anything."""
    error = RankError("closed", "NotBegun", "was not asked: another rank was not ready for it")
    told = (replace(x, ok=False, value=None, error=x.error or error) for x in cleared.results)
    return PoolResult(tuple(told))


def _any_changed(result: Results) -> bool:
    """Whether a rank has done it, or may have; what raises, has not."""
    every = result.results
    return any(x.value is not None or x.error is None or x.error.kind == "silent" for x in every)


def _began_anew(result: Results) -> bool:
    """A rank has died: there will be new ones, with what the old ones had before."""
    return any(x.error is not None and x.error.kind in ("died", "closed") for x in result.results)
