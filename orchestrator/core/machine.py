"""The machine: `handle(event, now) -> commands`. All decisions of the orchestrator, and nothing
but decisions: the same code runs behind sockets and inside a simulation."""

from collections import Counter
from collections.abc import Iterable

from orchestrator.core import (
    adapters,
    admission,
    asking,
    changes,
    copies,
    dispatch,
    ending,
    integrity,
    membership,
    previews,
    sleeping,
    stages,
    weights,
)
from orchestrator.core.attempts import Attempt
from orchestrator.core.books import Books
from orchestrator.core.commands import Command, Send
from orchestrator.core.config import Config
from orchestrator.core.events import (
    AskInstances,
    Broken,
    Cancel,
    Disconnected,
    DrainInstance,
    Event,
    Received,
    RemoveInstance,
    SenderGone,
    Submit,
    Tick,
)
from orchestrator.core.instances import Instance
from orchestrator.core.models import Model
from orchestrator.core.view import ClusterView, look
from transfer.actions import Adapter, LoadLora, Sleep, UnloadLora, UpdateWeights, Wake
from transfer.messages import (
    DENOISES,
    ROLES,
    SPLIT_ROUTE,
    Answered,
    Beat,
    Ended,
    ErrorInfo,
    Heartbeat,
    Left,
    ModelInfo,
    Register,
    RegisterAgain,
    Role,
    StateChanged,
)


class Machine:
    """Feed it events, carry out its commands in order.

    `now` is any clock that never goes back (seconds). `handle` raises `InvalidTransition` if a
    request would make a move that is not in the table, which is a bug of ours: the loop then says
    `Broken`, and what was commanded before is not lost. It raises nothing else, whatever comes in.
    Call it with Tick a few times a second, and not later than `alarm` says.

    The cost of an event does not depend on how many requests are under way, and hardly on how
    many instances there are.
    """

    def __init__(self, config: Config) -> None:
        self.books = Books(config)

    def handle(self, event: Event, now: float) -> list[Command]:
        books = self.books
        books.now = now
        self._dispatch(event)
        dispatch.settle(books)
        while previews.begin_one(books):
            dispatch.settle(books)
        while copies.begin(books):
            dispatch.settle(books)
        commands, books.commands = books.commands, []
        return commands

    @property
    def counters(self) -> Counter[str]:
        return self.books.counters

    @property
    def connections(self) -> list[bytes]:
        """Those of the live instances."""
        return list(self.books.registry.by_connection)

    def model(self, name: str) -> ModelInfo | None:
        """What is known of the model of that name, whether or not anybody has it now."""
        model = self.books.registry.find_model(name)
        return None if model is None else model.info

    @property
    def models(self) -> list[ModelInfo]:
        """What the live instances registered, or the last ones that did, in the order in which they
        first did."""
        return [model.info for model in self.books.registry.served]

    @property
    def usual_model(self) -> ModelInfo | None:
        """What a request means that names none; None: it has to, or nobody is there."""
        usual = self.books.registry.usual
        return None if usual is None else usual.info

    @property
    def alarm(self) -> float | None:
        """When something is due."""
        return self.books.ledger.alarm

    @property
    def idle(self) -> bool:
        """No request is under way, and nothing is held for one that is over."""
        return self.books.ledger.idle

    def missing(self, name: str | None = None) -> list[Role]:
        """The roles of a model's route that have no ready instance; without a name, of all routes
        that there should be."""
        if name is not None:
            model = self.books.registry.find_model(name)
            return list(SPLIT_ROUTE) if model is None else model.missing()
        lacking = {role for roles in self.routes().values() for role in roles}
        return [role for role in ROLES if role in lacking]

    def routes(self) -> dict[str, list[Role]]:
        """What each model's route lacks: of those that are served, and of the one that was declared
        as the usual one. While there is none at all, of one without a name."""
        registry = self.books.registry
        found = {model.name: model.missing() for model in registry.served}
        declared = self.books.config.default_model
        if not found or (declared is not None and registry.usual not in registry.served):
            found[declared or ""] = list(SPLIT_ROUTE)
        return found

    def asleep(self, name: str | None = None) -> list[Role]:
        """Those of them whose instances sleep, some at least."""
        found = {role for model in self._models(name) for role in model.asleep()}
        return [role for role in ROLES if role in found]

    def _models(self, name: str | None) -> list[Model]:
        registry = self.books.registry
        if name is None:
            return registry.served
        return [model for model in (registry.find_model(name),) if model is not None]

    def knows(self, name: str) -> bool:
        """An instance of that name is live, or shown as lost."""
        return self.books.registry.knows(name)

    def lives(self, name: str) -> bool:
        """An instance of that name is registered, and was heard of lately."""
        return name in self.books.registry.by_name

    @property
    def questions(self) -> int:
        """How many of operators, and of our own, are not answered yet."""
        books = self.books
        changes = sum(len(model.changes) for model in books.models)
        return len(books.questions) + changes + len(books.rests)

    def adapters(self, name: str) -> dict[str, Adapter]:
        """Those that requests for a model may have on, in the order in which they were loaded."""
        model = self.books.registry.find_model(name)
        return {} if model is None else adapters.offered(model)

    def parts(self, names: Iterable[str]) -> set[str]:
        """The components that these instances compute with."""
        return weights.parts_of(self.books, names)

    def roster(self, role: Role, name: str | None = None) -> list[str]:
        """The names of the live instances of a role, of a model or of one after the other, in
        registered endpoint order."""
        posts = (post for model in self._models(name) for post in model.rosters[role].posts())
        return [post.instance.name for post in posts if post.instance.live]

    def models_of(self, names: Iterable[str]) -> list[str]:
        """The models of these instances, each once."""
        found = filter(None, (self.books.registry.by_name.get(name) for name in names))
        return list(dict.fromkeys(instance.model.name for instance in found))

    def view(self) -> ClusterView:
        return look(self.books)

    def _dispatch(self, event: Event) -> None:
        books = self.books
        match event:
            case Received():
                self._receive(event)
            case Tick():
                self._tick()
            case Submit():
                books.unchecked = True
                admission.submit(books, event)
            case Cancel(request=id, reason=reason):
                self._cancel(id, reason)
            case Disconnected(connection=connection):
                instance = books.registry.by_connection.get(connection)
                if instance is not None:
                    membership.lose(books, instance, "its connection broke")
            case SenderGone(name=name, epoch=epoch):
                membership.gone(books, name, epoch)
            case DrainInstance(name=name):
                membership.drain(books, name)
            case RemoveInstance(name=name):
                membership.remove(books, name)
            case AskInstances(action=LoadLora() | UnloadLora()) if self._denoise(event.names):
                changes.begin(books, event)
            case AskInstances(action=UpdateWeights()) if self.parts(event.names):
                changes.begin(books, event)
            case AskInstances(action=Sleep() | Wake()):
                sleeping.begin(books, event)
            case AskInstances():
                asking.ask(books, event)
            case Broken():
                self._give_up(event)

    def _receive(self, event: Received) -> None:
        books, message = self.books, event.message
        if isinstance(message, Register):
            books.unchecked = True
            membership.register(books, event.connection, message)
            return
        if isinstance(message, Ended):
            membership.ended(books, event.connection, message)
            return
        instance = books.registry.by_connection.get(event.connection)
        if instance is None:
            self._from_unknown(event)
        elif message.epoch != instance.epoch:
            books.count("dropped_stale_epoch")
        else:
            membership.hear(books, instance)
            self._from_instance(instance, event)

    def _from_instance(self, instance: Instance, event: Received) -> None:
        books = self.books
        match event.message:
            case Heartbeat(encodings=encodings, healthy=healthy):
                instance.encodings = encodings
                membership.feel(books, instance, healthy)
                books.send(instance, Beat())
            case StateChanged() as message:
                membership.change_state(books, instance, message)
            case Answered() as message:
                asking.answered(books, instance, message)
            case Left(reason=reason):
                membership.lose(books, instance, f"it left: {reason}", gone=True, state="closing")
            case Register() | Ended():
                raise AssertionError("these have been sorted out before")
            case message:
                stages.handle(books, instance, message)

    def _from_unknown(self, event: Received) -> None:
        """Someone whom we do not know, or gave up."""
        books, message = self.books, event.message
        if not isinstance(message, Left):
            books.count("dropped_unknown_connection")
            books.commands.append(Send(event.connection, RegisterAgain()))
            return
        ghost = books.registry.ghost_at(event.connection)
        if ghost is not None and ghost.epoch == message.epoch:
            membership.bury(books, ghost)

    def _denoise(self, names: list[str]) -> bool:
        found = filter(None, (self.books.registry.by_name.get(name) for name in names))
        return any(DENOISES & set(instance.info.roles) for instance in found)

    def _cancel(self, id: str, reason: str) -> None:
        request = self.books.ledger.active.get(id)
        if request is not None:
            ending.cancel(self.books, request, reason)

    def _give_up(self, event: Broken) -> None:
        books = self.books
        books.count("invalid_transitions")
        books.log("error", f"invalid transition of request {event.request}: {event.story}")
        request = books.ledger.active.get(event.request)
        preview = books.ledger.previews.get(event.request)
        if preview is not None and preview.attempt is not None:
            ending.fail(books, preview.attempt, ErrorInfo("internal", event.story))
        elif request is not None:
            text = "the orchestrator lost track of the request"
            ending.fail_for_good(books, request, ErrorInfo("internal", text))

    def _tick(self) -> None:
        books = self.books
        while request := books.ledger.deadlines.pop_until(books.now):
            text = f"no result within {request.asked_s:g} s: {_whereabouts(request.attempt)}"
            ending.fail_for_good(books, request, ErrorInfo("deadline", text))
        while hasty := books.ledger.patience.pop_until(books.now):
            dispatch.settle_for_any(books, hasty)
        while stuck := books.ledger.stalls.pop_until(books.now):
            if dispatch.only_waits(books, stuck):
                dispatch.watch(books, stuck)
                continue
            name = stuck.worker.name if stuck.worker else None
            text = f"no progress for {books.config.stall_s:g} s: {_whereabouts(stuck)}"
            ending.fail(books, stuck, ErrorInfo("stalled", text, instance=name))
        while late := books.ledger.reminders.pop_until(books.now):
            books.count("aborts_repeated")
            ending.abort(books, late)
        asking.expire(books)
        changes.go_on(books)
        sleeping.go_on(books)
        changes.equip_all(books)
        membership.lose_silent(books)
        membership.miss_last_words(books)
        books.flush_releases()
        if self.idle and books.unchecked:
            books.unchecked = False
            self._check()

    def _check(self) -> None:
        """Nothing is under way, so everything has to be home."""
        for complaint in integrity.complaints(books := self.books):
            books.count("integrity_violations")
            books.log("error", f"integrity: {complaint}")


def _whereabouts(attempt: Attempt | None) -> str:
    """Where an attempt is, for people."""
    assert attempt is not None
    step = f", step {attempt.step} of {attempt.steps}" if attempt.steps else ""
    return f"{attempt.state} ({attempt.role}) at {attempt.worker or 'no instance'}{step}"
