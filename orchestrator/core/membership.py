"""How instances come and go, and what that does to the requests they have."""

from orchestrator.core import admission, asking, changes, ending
from orchestrator.core.attempts import Attempt
from orchestrator.core.books import Books
from orchestrator.core.commands import Send, Watch
from orchestrator.core.instances import Instance
from orchestrator.core.slots import SlotTable
from transfer.messages import (
    Close,
    Ended,
    ErrorInfo,
    InstanceState,
    Refused,
    Register,
    StateChanged,
    Welcome,
)

_BEFORE_IT_RENEWS = ("starting", "warming", "ready", "sleeping")


def register(books: Books, connection: bytes, info: Register) -> None:
    """A leader introduces itself, for the first time or again."""
    known = books.registry.by_connection.get(connection)
    if known is not None and _said_again(known, info):
        books.count("dropped_duplicate_register")
        books.send(known, _welcome(books, known))
        return
    reason = admission.objection(books, info)
    if reason is None and known is not None and known.name != info.name:
        reason = f"this connection belongs to {known.name}"
    if reason is not None:
        books.count("instances_refused")
        books.log("warning", f"{info.name[: admission.MAX_NAME]!r} may not register: {reason}")
        books.commands.append(Send(connection, Refused(reason)))
        return
    _admit(books, connection, info)


def hear(books: Books, instance: Instance) -> None:
    """It said something in its epoch, so it lives, and has kept the promise of registering: it
    writes nothing of older epochs. What it could not take back stays pinned."""
    books.heard[instance] = books.now
    books.heard.move_to_end(instance)
    if instance.inherits:
        instance.inherits = False
        for lease in list(instance.borrowed.values()):
            if lease.epoch < instance.epoch and not lease.pinned:
                ending.free(books, lease)


def lose_silent(books: Books) -> None:
    """Gives up the instances that missed too many beats."""
    limit = books.config.heartbeat_s * books.config.missed_beats
    while books.heard:
        instance, heard = next(iter(books.heard.items()))
        if books.now - heard <= limit:
            return
        lose(books, instance, f"nothing heard of it for {books.now - heard:.1f} s")


def lose(
    books: Books,
    instance: Instance,
    cause: str,
    gone: bool = False,
    state: InstanceState = "failed",
) -> None:
    """The instance is not live any more, and the attempts that it has fail.

    `gone`: it writes nowhere any more, so that nothing has to be kept in quarantine for it.
    `state`: what it is from now on; of one that is closing more will be heard.
    """
    books.count("instances_left" if gone else "instances_lost")
    books.note(instance, state, cause)
    if instance.noted is not None:
        books.history.depart(instance.connection, instance.noted)
    del books.heard[instance]
    attempts = instance.involved()
    books.registry.leave(instance, gone)
    for attempt in attempts:
        _bereave(books, attempt, instance, cause)
    asking.bereave(books, instance, cause)
    books.registry.haunt(instance)
    for role in instance.posts:
        books.call(instance.model, role)  # what waits may now be too large for those that are left
    if gone:
        bury(books, instance)


def gone(books: Books, name: str, epoch: int) -> None:
    """The process of that instance is proved to have ended."""
    live = books.registry.by_name.get(name)
    if live is not None and live.epoch == epoch:
        lose(books, live, "its process has ended")
    for instance in books.registry.departed(name, epoch):
        bury(books, instance)


def bury(books: Books, instance: Instance) -> None:
    """It writes nowhere any more, and nobody can write into its memory."""
    for lease in list(instance.borrowed.values()):
        ending.free(books, lease)
    _void(books, instance.slots)
    books.registry.lay(instance)
    books.registry.bury(instance)


def ended(books: Books, connection: bytes, message: Ended) -> None:
    """The last word of an instance: how its ranks have ended, or that they did not."""
    instance = books.registry.by_connection.get(connection)
    if instance is not None and instance.epoch == message.epoch:
        # it has not left before, for it cannot promise that it writes nowhere
        lose(books, instance, "it ends", state="closing")
    last = books.history.whose(connection, message.epoch)
    if last is None:
        books.count("dropped_unknown_connection")
        return
    books.count(f"instances_{message.state}")
    cause = f"{message.cause} ({message.seconds:.1f} s)"
    books.note_of(last.name, last.epoch, message.state, cause)


def miss_last_words(books: Books) -> None:
    """Of those that were closing and never said how that ended."""
    for last in books.history.silent(books.now):
        if last.state == "closing":
            cause = f"it has said nothing more for {books.now - last.at:.0f} s"
            books.note_of(last.name, last.epoch, "failed", cause)


def change_state(books: Books, instance: Instance, message: StateChanged) -> None:
    if instance.renewing and message.state in _BEFORE_IT_RENEWS:
        return  # said before it was told: it has ranks and adapters that it will not keep
    instance.renewing = False
    books.note(instance, message.state, message.cause)
    if message.state == "starting":  # its next ranks have to prove themselves first
        instance.healthy = True
    instance.reported = message.state
    instance.ranks = message.ranks
    instance.warmed = message.warmed
    changes.adopt(books, instance, message)
    books.stir(instance)
    if message.state == "draining":
        _begin_drain(books, instance)


def feel(books: Books, instance: Instance, healthy: bool) -> None:
    """Whether its ranks have shown lately that they compute; if not, it gets nothing."""
    if healthy == instance.healthy:
        return
    instance.healthy = healthy
    if healthy:
        books.log("info", f"{instance} is healthy again")
    else:
        books.log("warning", f"{instance} is not healthy: its ranks do not answer")
    books.stir(instance)


def drain(books: Books, name: str) -> None:
    """It gets no new work, and leaves when it has none."""
    instance = books.registry.by_name.get(name)
    if instance is None:
        return
    instance.drain_told = instance.drain_sent = False  # asked again: told again
    _begin_drain(books, instance)


def remove(books: Books, name: str) -> None:
    """It is out at once. A lost one is shown no longer; what it may still write to stays in
    quarantine."""
    instance = books.registry.by_name.get(name)
    if instance is None:
        books.registry.forget(name)
        return
    books.send(instance, Close("removed by an operator"))
    lose(books, instance, "removed by an operator", state="closing")
    books.registry.forget(name)


def _said_again(known: Instance, info: Register) -> bool:
    """The leader sent this before it knew of the epoch that this connection has: a repetition."""
    same = (known.name, known.info.incarnation) == (info.name, info.incarnation)
    return same and info.last_epoch < known.epoch


def _welcome(books: Books, instance: Instance) -> Welcome:
    return Welcome(instance.name, instance.epoch, books.config.heartbeat_s)


def _admit(books: Books, connection: bytes, info: Register) -> None:
    registry = books.registry
    before = registry.by_name.get(info.name)
    if before is not None:
        lose(books, before, "it registered again")
    ghost = registry.ghosts.get((info.name, info.incarnation))
    epoch = registry.next_epoch(info.name, info.last_epoch)
    instance = Instance(
        info, epoch, connection, registry.slots_for(info), registry.take_in(info.model)
    )
    if ghost is not None:
        _reincarnate(books, ghost, instance)
    registry.enter(instance)
    changes.adopt(books, instance, info)
    books.heard[instance] = books.now
    books.stir(instance)
    books.count("instances_registered")
    cause = f"it registered as {', '.join(info.roles)} at {info.endpoint}"
    books.note(instance, instance.reported, cause)
    books.send(instance, _welcome(books, instance))
    books.commands.append(Watch(info.name, epoch, info.host))


def _reincarnate(books: Books, ghost: Instance, instance: Instance) -> None:
    """The same process is back, and what it was granted is in quarantine until it says its first
    word in the new epoch: this registration may have been overtaken by a later one, in which it is
    writing at this moment."""
    unsettled = set(instance.info.may_land)
    for lease in list(ghost.borrowed.values()):
        if lease.generation in unsettled:
            ending.pin(books, lease)
        lease.move_to(instance.borrowed)
        instance.inherits = True
    books.registry.lay(ghost)


def _bereave(books: Books, attempt: Attempt, instance: Instance, cause: str) -> None:
    """One of the instances that the attempt depends on is out.

    If it would only have received the payload, the attempt lives on: its sender will say that it
    could not write, or wrote into nothing, and is then given another receiver.
    """
    where = f"{attempt.state} ({attempt.role})"
    ending.withdraw(books, attempt)
    if attempt.worker is instance:
        ending.part(books, attempt)
    elif attempt.worker is not None and not attempt.copy:
        return
    if not attempt.over:
        text = f"instance {instance.name} was lost ({cause}) while the request was {where}"
        ending.fail(books, attempt, ErrorInfo("instance_lost", text, None, instance.name))


def _void(books: Books, table: SlotTable) -> None:
    """The memory is gone, so whatever may still be written into it harms nobody."""
    for lease in list(table.leases.values()):
        attempt = books.ledger.find(lease.request, lease.attempt)
        if attempt is not None and attempt.outgoing is lease:
            attempt.outgoing = None
        lease.release()


def _begin_drain(books: Books, instance: Instance) -> None:
    if not instance.draining:
        books.note(instance, "draining", "an operator asked for it")
    instance.draining = True
    for copy in list(instance.copies):
        ending.drop_copy(books, copy)
    books.stir(instance)
