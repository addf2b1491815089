"""Deliberate bugs, each of which a simulation has to find: in the core and the desk the one with
doubles for leaders, in a leader's code the one with real leaders.

A mutation is a piece of source and what stands there instead. It is made in a copy of our code, in
which a process of its own runs seeds until one fails.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("orchestrator", "roles", "transfer", "tests/simulation", "tests/support")
CORE, JOBS = "orchestrator/core", "orchestrator/jobs"
LEADER = "roles/leader"
RUN = """
import importlib, json, sys
first_failure = importlib.import_module(sys.argv[2]).first_failure
failure = first_failure(range(int(sys.argv[1])))
print(json.dumps(None if failure is None else [failure.seed, failure.error]))
"""


@dataclass(frozen=True)
class Mutation:
    """`old` stands in `file` exactly once. `also`: more edits, where one fence stands behind
    another one and neither is missed alone. `rare`: it takes
    long to find, and is left to `python -m tests.simulation --mutations`."""

    name: str
    file: str
    old: str
    new: str
    also: tuple[tuple[str, str, str], ...] = ()
    rare: bool = False

    @property
    def runs(self) -> str:
        """The simulation that has to find it."""
        engines = self.file.startswith(LEADER)
        return "tests.simulation.engines.runs" if engines else "tests.simulation.runs"

    @property
    def edits(self) -> tuple[tuple[str, str, str], ...]:
        return ((self.file, self.old, self.new), *self.also)


@dataclass(frozen=True)
class Verdict:
    """After how many seeds the mutation was found, and by what; None: it was not."""

    seeds: int | None
    error: str


MUTATIONS = [
    Mutation(
        "skip the generation check: take any Delivered for the one that is awaited",
        f"{CORE}/stages.py",
        "if attempt.generation != message.generation or attempt.state not in SENDING:",
        "if attempt.state not in SENDING:",
        rare=True,
    ),
    Mutation(
        "drop the epoch fence, the attempt fence, and do not ask who speaks",
        f"{CORE}/machine.py",
        "elif message.epoch != instance.epoch:",
        "elif False:",
        also=(
            (
                f"{CORE}/stages.py",
                "if attempt.worker is not instance or not right_role:",
                "if attempt.worker is None or not right_role:",
            ),
            (
                f"{CORE}/ledger.py",
                "if request is not None and request.attempt is not None and request.attempt.number"
                " == number:",
                "if request is not None and request.attempt is not None:",
            ),
        ),
    ),
    Mutation(
        "drop the attempt fence",
        f"{CORE}/ledger.py",
        "if request is not None and request.attempt is not None and request.attempt.number"
        " == number:",
        "if request is not None and request.attempt is not None:",
    ),
    Mutation(
        "give a request to whoever has room, of whatever model",
        f"{CORE}/dispatch.py",
        "    roster, likes = attempt.model.rosters[role], choice(attempt, role)\n",
        "    roster, likes = next(books.models).rosters[role], choice(attempt, role)\n",
    ),
    Mutation(
        "forget over a restart which model a job is for",
        f"{JOBS}/pictures.py",
        "part.attempts, previews, model))",
        "part.attempts, previews))",
    ),
    Mutation(
        "free the slots of a payload when its reader is told of it, not when it has read it",
        f"{CORE}/dispatch.py",
        "    books.send(instance, work)\n",
        "    books.send(instance, work)\n    ending.release_incoming(books, attempt)\n",
    ),
    Mutation(
        "tell nobody that a request is not wanted any more",
        f"{CORE}/ending.py",
        "    books.send(attempt.worker, Abort(epoch, attempt.id, attempt.number, reason))\n",
        "",
    ),
    Mutation(
        "forget a request that waits when its turn comes",
        f"{CORE}/dispatch.py",
        "            join(books, attempt)\n",
        "            pass\n",
    ),
    Mutation(
        "complete a job before its file is stored",
        f"{JOBS}/pictures.py",
        "        part.files = event.files\n",
        "        part.files = event.files\n        self._do(Delete(event.files))\n",
    ),
    Mutation(
        "begin with an empty desk after a crash",
        f"{JOBS}/desk.py",
        "        history = History(event.entries)",
        "        history = History([])",
    ),
    Mutation(
        "free slots when a request is given up, not when its sender confirms",
        f"{CORE}/ending.py",
        "    lease.quarantine()\n    receiver = lease.table.owner",
        "    lease.release()\n    receiver = lease.table.owner",
    ),
    Mutation(
        "give capacity back with the Abort",
        f"{CORE}/ending.py",
        "        books.ledger.linger(attempt)\n        abort(books, attempt)",
        "        books.ledger.linger(attempt)\n        abort(books, attempt)\n"
        "        attempt.worker.posts[attempt.role].working.pop(attempt, None)",
    ),
    Mutation(
        "take silence for the end of a process",
        f"{CORE}/membership.py",
        '        lose(books, instance, f"nothing heard of it for {books.now - heard:.1f} s")',
        '        lose(books, instance, "silent", gone=True)',
        rare=True,
    ),
    Mutation(
        "believe that a failed write cannot land",
        f"{CORE}/stages.py",
        "    if may_land:\n",
        "    if False:\n",
    ),
    Mutation(
        "forget at a registration which failed writes may still land",
        f"{CORE}/membership.py",
        "        if lease.generation in unsettled:\n",
        "        if False:\n",
    ),
    Mutation(
        "free a grant that was written to, with an end that nobody knows",
        f"{CORE}/ending.py",
        "        if lease.generation == released and not lease.pinned:",
        "        if not lease.pinned:",
        rare=True,
    ),
    Mutation(
        "number the next attempt like the last one",
        f"{CORE}/ledger.py",
        "return self._begin(request, request.numbered + 1, now)",
        "return self._begin(request, request.numbered, now)",
    ),
    Mutation(
        "blame those that were beside a request which killed its rank",
        f"{CORE}/retry.py",
        "    if error.bystander and request.spared < config.max_spared:",
        "    if False:",
    ),
    Mutation(
        "leave a preview when its request is over",
        f"{CORE}/ending.py",
        "        drop(books, request.preview)\n",
        "        pass\n",
    ),
    Mutation(
        "give a preview up without telling those who make it",
        f"{CORE}/ending.py",
        "    _close(books, preview, State.CANCELLED)\n",
        "    preview.state = State.CANCELLED\n",
    ),
    Mutation(
        "begin with a copy under the number of another attempt",
        f"{CORE}/retry.py",
        "    request.attempt, request.copy, copy.copy = copy, None, False\n",
        "    request.attempt, request.copy, copy.copy = copy, None, False\n"
        "    request.numbered = copy.number = copy.number + 1\n",
    ),
    Mutation(
        "begin with a copy that has not arrived",
        f"{CORE}/retry.py",
        "    receiver = copy.incoming.table.owner if copy is not None and copy.incoming is not None"
        " else None\n",
        "    if copy is not None and copy.incoming is None:\n"
        "        copy.incoming = copy.outgoing\n"
        "    receiver = copy.incoming.table.owner if copy is not None and copy.incoming is not None"
        " else None\n",
        also=(
            (
                f"{CORE}/ending.py",
                "    if request.copy in books.ledger.copying:\n"
                "        forget_copy(books, request)\n",
                "",
            ),
        ),
    ),
    Mutation(
        "forget the lease of a copy when its request ends",
        f"{CORE}/ending.py",
        "    retry.forget_checkpoint(books, request)\n    forget_copy(books, request)\n",
        "    retry.forget_checkpoint(books, request)\n",
    ),
    Mutation(
        "free the slots of a copy that is being written",
        f"{CORE}/ending.py",
        "    copy.request.copy = None\n    _close(books, copy, State.CANCELLED)\n",
        "    copy.request.copy = None\n    lease = copy.outgoing\n"
        "    _close(books, copy, State.CANCELLED)\n"
        "    if lease is not None:\n        free(books, lease)\n",
    ),
    Mutation(
        "leave copies with an instance that drains",
        f"{CORE}/membership.py",
        "    for copy in list(instance.copies):\n        ending.drop_copy(books, copy)\n",
        "",
        also=(
            (
                f"{CORE}/retry.py",
                "if copy is None or receiver is None or not receiver.available:",
                "if copy is None or receiver is None:",
            ),
        ),
        rare=True,
    ),
    Mutation(
        "lend the slots of a copy without giving it up",
        f"{CORE}/dispatch.py",
        "    _clear(books, receiver, count)\n",
        "",
    ),
    Mutation(
        "try for ever",
        f"{CORE}/retry.py",
        " or request.tries - request.spared >= config.max_attempts:",
        ":",
    ),
    Mutation(
        "never release what senders keep",
        f"{CORE}/retry.py",
        "    if kept.instance.live:\n"
        "        books.release(kept.instance, request.route[stage], request.id, kept.attempt)",
        "    pass",
    ),
    Mutation(
        "keep what was staged for a request that is over",
        f"{CORE}/ending.py",
        "        books.release(attempt.worker, attempt.shelf, attempt.id, attempt.held)",
        "        pass",
        rare=True,
    ),
    Mutation(
        "push under the number of an attempt that is long over",
        f"{CORE}/stages.py",
        "    attempt.nbytes, attempt.held = message.nbytes, attempt.number\n"
        '    attempt.move(State.STAGED, books.now, "its receiver was lost")',
        "    attempt.nbytes = message.nbytes\n"
        '    attempt.move(State.STAGED, books.now, "its receiver was lost")',
        rare=True,
    ),
    Mutation(
        "hand a payload to a receiver that is gone",
        f"{CORE}/stages.py",
        'if lease is None or lease.state != "granted":\n        return _delivered_to_nobody',
        "if lease is None:\n        return _delivered_to_nobody",
    ),
    Mutation(
        "count one place more than an instance has",
        f"{CORE}/dispatch.py",
        "while instance.live and (attempt := post.next_parked()) is not None:",
        "while instance.live and (attempt := next(iter(post.parked), None)) is not None:",
    ),
    Mutation(
        "leave the requests of a lost instance as they are",
        f"{CORE}/membership.py",
        "    for attempt in attempts:\n        _bereave(books, attempt, instance, cause)",
        "    for attempt in attempts[1:]:\n        _bereave(books, attempt, instance, cause)",
    ),
    Mutation(
        "acknowledge a job before the journal has it",
        f"{JOBS}/desk.py",
        "            self.books.enter(case)\n            self._write(entry)",
        "            self.books.enter(case)\n            self._write(entry)\n"
        "            self._do(Answer(event.asker, self.books.snapshot(case)))",
    ),
    Mutation(
        "leave an operator waiting for a lost instance",
        f"{CORE}/membership.py",
        "    asking.bereave(books, instance, cause)\n",
        "",
    ),
    Mutation(
        "leave an operator waiting for a silent instance",
        f"{CORE}/machine.py",
        "        asking.expire(books)\n",
        "",
    ),
    Mutation(
        "give an instance that comes none of the adapters",
        f"{CORE}/changes.py",
        "    asking.pose(books, [instance.name], action, EQUIP_S, then, partial(_note, action))\n",
        "    books.registry.lay(instance)\n",
    ),
    Mutation(
        "let encoders begin before they have the adapters of the others",
        f"{CORE}/changes.py",
        "    instance.tidy = instance.equipped and adapters.surplus(instance) is None\n",
        "    instance.tidy = instance.equipped and adapters.surplus(instance) is None\n"
        '    if weights.fits(instance) and instance.posts.keys() == {"encoder"}:\n'
        "        instance.equipped = True\n",
    ),
    Mutation(
        "load adapters in those alone that denoise",
        f"{CORE}/adapters.py",
        "    return denoises(instance) or bool(instance.info.adaptable)\n",
        "    return denoises(instance)\n",
        rare=True,
    ),
    Mutation(
        "let requests begin while weights change",
        f"{CORE}/dispatch.py",
        "    if role in FIRST and changes.holds(model):\n",
        "    if role in FIRST and books.now < 0:\n",
        rare=True,
    ),
    Mutation(
        "change the weights of requests that are under way",
        f"{CORE}/weights.py",
        "        if begun:\n",
        "        if begun < 0:\n",
        rare=True,
    ),
    Mutation(
        "give work to instances that have other weights",
        f"{CORE}/changes.py",
        "equipped = weights.fits(instance) and adapters",
        "equipped = adapters",
        rare=True,
    ),
    Mutation(
        "put instances to sleep with what they have",
        f"{CORE}/sleeping.py",
        "    if busy and isinstance(rest.action, Sleep):\n",
        "    if busy < 0:\n",
    ),
    Mutation(
        "give work to those that sleep",
        f"{CORE}/instances.py",
        """        ready = self.reported == "ready" and self.equipped and not self.resting\n""",
        """        ready = self.reported in ("ready", "sleeping") and self.equipped\n""",
    ),
]

LEADERS = [
    Mutation(
        "keep the payload of a preview",
        f"{LEADER}/engine.py",
        " or is_look(attempt.work))",
        ")",
    ),
    Mutation(
        "skip the check of a payload's header",
        f"{LEADER}/engine.py",
        "            check_header(segments[0], *attempt.key, delivery)\n",
        "",
        rare=True,
    ),
    Mutation(
        "obey orders of an epoch that has ended",
        f"{LEADER}/control.py",
        "if isinstance(message, OF_AN_EPOCH) and message.epoch != self.epoch:",
        "if False:",
        rare=True,
    ),
    Mutation(
        "do not wait for the end of a write when its attempt is aborted",
        f"{LEADER}/handover.py",
        "            sending.cancel()\n            await asyncio.wait([sending])\n",
        "            return None\n",
        rare=True,
    ),
    Mutation(
        "keep the payload of an attempt that was aborted",
        f"{LEADER}/engine.py",
        "if isinstance(last, Delivered) and wanted:",
        "if isinstance(last, Delivered) or (attempt.aborted and attempt.slots):\n"
        "            last = last if isinstance(last, Delivered) else Delivered(\n"
        "                *about(attempt), 1, 4096, 1, attempt.report)",
        rare=True,
    ),
    Mutation(
        "keep the slots of an attempt that has ended",
        f"{LEADER}/engine.py",
        "        self._outbox.leave(attempt)\n",
        "        if last is not None:\n            self._outbox.leave(attempt)\n",
    ),
    Mutation(
        "forget to give back the grant of an attempt that failed",
        f"{LEADER}/engine.py",
        "error, released = replace(last, instance=self.name), attempt.release_grant()",
        "error, released = replace(last, instance=self.name), None",
        rare=True,
    ),
    Mutation(
        "forget to give back the grant of a payload that is staged",
        f"{LEADER}/handover.py",
        "        released = attempt.release_grant()\n",
        "        attempt.release_grant()\n        released = None\n",
        rare=True,
    ),
    Mutation(
        "give back a grant whose write may still land",
        f"{LEADER}/handover.py",
        "        may_land=failure.may_land,\n",
        "        may_land=False,\n",
        rare=True,
    ),
    Mutation(
        "tell nobody at a registration which writes may still land",
        f"{LEADER}/handover.py",
        "                self.may_land.append(grant.generation)\n",
        "                pass\n",
    ),
    Mutation(
        "free the outbox before the write has ended",
        f"{LEADER}/handover.py",
        "        await attempt.race(sending)\n",
        "        self._outbox.leave(attempt)\n        await attempt.race(sending)\n",
        rare=True,
    ),
    Mutation(
        "write from other slots than the payload's",
        f"{LEADER}/handover.py",
        "self._sender.send(attempt.slots, nbytes, grant, attempt.grant_at)",
        "self._sender.send(attempt.slots[::-1], nbytes, grant, attempt.grant_at)",
        rare=True,
    ),
    Mutation(
        "go on with the steps of a request that has ended",
        f"{LEADER}/engine.py",
        '        """Ends an attempt, wherever it is."""\n        if self._scheduled(attempt):\n',
        '        """Ends an attempt, wherever it is."""\n        if False:\n',
        rare=True,
    ),
    Mutation(
        "confirm an abort before the ranks have let go",
        f"{LEADER}/engine.py",
        "        if not isinstance(last, Message):\n",
        "        if False:\n",
        rare=True,
    ),
    Mutation(
        "do not have the ranks forget",
        f"{LEADER}/door.py",
        "            return self._aside(Drop(*attempt.key))\n",
        "            pass\n",
        rare=True,
    ),
    Mutation(
        "say Accepted as soon as the work comes",
        f"{LEADER}/engine.py",
        "        self._check(attempt)\n",
        "        self._check(attempt)\n        if attempt.work.delivery is not None:\n"
        "            generation = attempt.work.delivery.generation\n"
        "            self._send(Accepted(*about(attempt), generation=generation))\n",
        rare=True,
    ),
    Mutation(
        "do not condemn a rank that hangs",
        f"{LEADER}/door.py",
        '        if worst.error.kind == "silent":\n',
        "        if False:\n",
        rare=True,
    ),
    Mutation(
        "leave the line for the outbox as it is when somebody in it ends",
        f"{LEADER}/outbox.py",
        "        self._lines[role] = deque(entry for entry in self._lines[role] if entry[0] is not"
        " attempt)\n",
        "",
        rare=True,
    ),
    Mutation(
        "push another request's checkpoint",
        f"{LEADER}/outbox.py",
        "        return self._kept.get(shelf, {}).pop(key, None)\n",
        "        kept = self._kept.get(shelf, {})\n"
        '        if shelf == "checkpoint" and kept and key not in kept:\n'
        "            key = next(iter(kept))\n"
        "        return kept.pop(key, None)\n",
        rare=True,
    ),
    Mutation(
        "free a checkpoint while a copy of it is written",
        f"{LEADER}/outbox.py",
        "        if slots and slots[0] in self._lent:\n",
        "        if False:\n",
        rare=True,
    ),
    Mutation(
        "take a copied checkpoint off its shelf",
        f"{LEADER}/outbox.py",
        '        kept = self._kept["checkpoint"].get(key)\n',
        '        kept = self._kept["checkpoint"].pop(key, None)\n',
        rare=True,
    ),
    Mutation(
        "keep the room of a checkpoint whose place a later one has taken",
        f"{LEADER}/outbox.py",
        '        self.release("checkpoint", attempt.key)\n',
        "",
        rare=True,
    ),
    Mutation(
        "keep a checkpoint of what has ended while it was written, in room that was given back",
        f"{LEADER}/checkpoints.py",
        "        if checksum is not None and attempt.going_on:\n",
        "        if checksum is not None:\n",
        rare=True,
    ),
    Mutation(
        "let a place of the scheduler be lost with its request",
        f"{LEADER}/scheduler.py",
        "        if job.key in self._places:\n            self._places.remove(job.key)\n",
        "",
        rare=True,
    ),
    Mutation(
        "leave what was in ranks that died",
        f"{LEADER}/engine.py",
        "        for attempt in [a for a in self._attempts.values() if a.in_ranks]:\n",
        "        for attempt in at_work:\n",
        rare=True,
    ),
    Mutation(
        "leave an adapter loaded in some of the ranks",
        f"{LEADER}/asked.py",
        "                await self._undo(action)\n",
        "                pass\n",
        rare=True,
    ),
]
EVERY = [*MUTATIONS, *LEADERS]


def can_be_made(mutation: Mutation) -> bool:
    """What it replaces stands in our code, once."""
    return all((ROOT / file).read_text().count(old) == 1 for file, old, _ in mutation.edits)


def judge(mutation: Mutation, seeds: int) -> Verdict:
    """Runs so many seeds against the mutated code, or fewer until one fails."""
    with tempfile.TemporaryDirectory(prefix="triptych-mutation-") as folder:
        copy = Path(folder)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, copy / package, ignore=ignored)
        for edit in mutation.edits:
            _mutate(copy, *edit)
        command = [sys.executable, "-c", RUN, str(seeds), mutation.runs]
        done = subprocess.run(
            command, cwd=copy, env={"PYTHONPATH": folder}, capture_output=True, text=True
        )
    if done.returncode:
        return Verdict(1, done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout)
    return Verdict(None, "") if found is None else Verdict(found[0] + 1, found[1])


def _mutate(copy: Path, file: str, old: str, new: str) -> None:
    text = (copy / file).read_text()
    assert text.count(old) == 1, f"{file} has changed: {old}"
    (copy / file).write_text(text.replace(old, new))


def table(seeds: int) -> str:
    """For docs/reliability.md."""
    lines = ["| deliberate bug | in | found by seed | as |", "| --- | --- | ---: | --- |"]
    for mutation in EVERY:
        verdict = judge(mutation, seeds)
        found = f"{verdict.seeds}" if verdict.seeds else f"not in {seeds}"
        error = verdict.error.splitlines()[0][:90].replace("|", "/") if verdict.error else ""
        lines.append(f"| {mutation.name} | {Path(mutation.file).name} | {found} | {error} |")
    return "\n".join(lines)
