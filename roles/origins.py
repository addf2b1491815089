"""Where a model comes from, beside what `--model` says."""

import msgspec

from transfer.messages import Record


class Origins(Record, frozen=True):
    """Made by the command line, told to the ranks; read by `roles.split.files.folder.find`.

    `variant`: of the weights, where a component has files of it: fp16. `components`: those that
    come from elsewhere, with their places, as `roles.split.files.source` reads them. `config`: the
    place of the pipeline that a model in a single file is of; None: the one that diffusers takes it
    for.
    """

    variant: str | None = None
    components: dict[str, str] = {}  # noqa: RUF012  # msgspec copies it
    config: str | None = None


NOTHING = Origins()


def write(origins: Origins) -> str:
    """As a rank's command line has it."""
    return msgspec.json.encode(origins).decode()


def read(text: str) -> Origins:
    """What `write` wrote."""
    return msgspec.json.decode(text, type=Origins)
