"""Previews of requests that are still being denoised here: payloads, or pictures."""

from roles.leader.attempt import Attempt, AttemptFailed
from roles.leader.door import Door
from roles.leader.handover import Handover
from roles.leader.outbox import OutboxLine
from transfer.codec import Message
from transfer.messages import ErrorInfo, Work


def is_look(work: Work) -> bool:
    """Whether no stage is to be computed, only something made of what is computed anyway: by a
    denoiser, or where a pipeline runs whole. A decoder's preview is a stage like any other."""
    return work.preview_of is not None and (not work.last or work.role == "monolithic")


class Previews:
    """What the engine does for a preview, in place of a stage.

    The ranks make the payload, or the picture of a pipeline that runs whole, between two steps of
    the request that it shows; then it goes the way of every payload, or picture. It waits for
    nothing: it takes room in the outbox that is free, or none. For it takes no place of the
    instance, and nothing is kept of it, `Engine` asks `is_look`.
    """

    def __init__(self, outbox: OutboxLine, handover: Handover, ranks: Door) -> None:
        self._outbox = outbox
        self._handover = handover
        self._ranks = ranks

    async def make(self, attempt: Attempt) -> Message:
        """The attempt's last message. Raises `Stopped` and `AttemptFailed`."""
        attempt.computing = False
        attempt.check()
        assert attempt.work.preview_of is not None
        outcome = await self._ranks.peek(attempt, attempt.work.preview_of)
        attempt.add(outcome, busy_s=0.0)  # of no stage
        nbytes = outcome.nbytes
        if nbytes is not None and not self._outbox.roomy(attempt.work.role, nbytes):
            raise AttemptFailed(ErrorInfo("internal", "the outbox has no room for a preview"))
        return await self._handover.finish(attempt, outcome)
