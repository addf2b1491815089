"""Log lines of role processes: standard error, one line each, "time level name: text"."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: int = logging.INFO) -> None:
    """Sets the root logger up, unless the embedding program already did."""
    logging.basicConfig(level=level, format=FORMAT)
