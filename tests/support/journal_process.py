"""A process that writes to a journal until it is killed: python -m tests.support.journal_process.

    FOLDER [--journal URL] [--bytes FILE_BYTES]

It takes the state folder, says `open LIFE`, and then `JOB` for each job whose promise is on disk,
or `! REASON` if it could not be written. FILE_BYTES: no file may grow beyond it, as on a disk that
is full; a line on standard input lifts that.
"""

import argparse
import asyncio
import resource
import sys
import threading
from collections.abc import Sequence

from orchestrator.jobs.entries import Accepted
from orchestrator.jobs.events import WriteFailed, Written
from orchestrator.jobs.folder import FolderTaken, StateFolder
from orchestrator.jobs.journal import Journal
from tests.support.simulated_desk import spec


def say(line: str) -> None:
    print(line, flush=True)


async def main(path: str, url: str | None, file_bytes: int | None) -> None:
    try:
        folder = StateFolder(path)
    except FolderTaken as error:
        say(f"! {error}")
        return
    journal = Journal(url or folder.journal)
    recovered = journal.open()
    say(f"open {recovered.life}")
    turn = asyncio.Event()

    def report(reports: Sequence[Written | WriteFailed]) -> None:
        for each in reports:
            failed = isinstance(each, WriteFailed)
            say(f"! {each.reason}" if failed else f"job_{recovered.life}_{each.ticket}")
        turn.set()

    journal.start(report, lambda: say("! lost"))
    if file_bytes is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, most))
        threading.Thread(target=_lift, args=(most,), daemon=True).start()
    ticket = len(recovered.entries)
    while True:
        turn.clear()
        ticket += 1
        journal.write(ticket, Accepted(f"job_{recovered.life}_{ticket}", ticket, 1.0, spec()))
        await turn.wait()


def _lift(most: int) -> None:
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--journal")
    parser.add_argument("--bytes", type=int)
    given = parser.parse_args()
    asyncio.run(main(given.folder, given.journal, given.bytes))
