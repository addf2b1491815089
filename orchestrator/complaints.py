"""Log lines about strangers, at most one of a kind every ten seconds, however many they are."""

import logging
import time

EVERY_S = 10.0


class Complaints:
    """`add` as often as there is reason; `flush` now and then.

    The first complaint of a kind is logged at once, with its detail; those that follow are counted,
    and told together when the time is over.
    """

    def __init__(self, log: logging.Logger, every_s: float = EVERY_S) -> None:
        self._log = log
        self._every_s = every_s
        self._kinds: dict[str, tuple[float, int, str]] = {}  # kind → (told at, since, last detail)

    def add(self, kind: str, detail: str) -> None:
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = (time.monotonic(), 0, detail)
            self._log.warning("%s: %s", kind, _short(detail))
        else:
            self._kinds[kind] = (known[0], known[1] + 1, detail)

    def flush(self) -> None:
        """Tells what came since the last line of each kind, if that was long ago."""
        now = time.monotonic()
        for kind, (told, since, detail) in list(self._kinds.items()):
            if now - told < self._every_s:
                continue
            if since:
                self._kinds[kind] = (now, 0, detail)
                self._log.warning("%s: %d times more, last: %s", kind, since, _short(detail))
            else:
                del self._kinds[kind]


def _short(detail: str) -> str:
    return ascii(detail[:200])[1:-1]
