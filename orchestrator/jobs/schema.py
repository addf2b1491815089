"""The journal's tables, what a row is, and how a row shows that it was damaged."""

from typing import NamedTuple

import msgspec
import xxhash
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from orchestrator.jobs.entries import Entry

VERSION = 1

metadata = MetaData()
# `schema`: the version of all this. `life`: how often the journal was opened before. `owner`: drawn
# at random by whoever opened it last; nobody else's writes count.
facts = Table(
    "facts",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", String(64), nullable=False),
)
# In the order of `seq`. `body` is JSON, so that people can read it.
entries = Table(
    "entries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("job", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Index("entries_by_job", "job"),
)

_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


class Row(NamedTuple):
    seq: int
    job: str
    body: bytes
    checksum: bytes


class Damaged(Exception):
    """A row is not what was written."""


def to_row(seq: int, entry: Entry) -> Row:
    """Raises what msgspec raises if the entry has something that JSON cannot hold."""
    body = msgspec.json.encode(entry)
    return Row(seq, entry.job, body, _checksum(seq, entry.job, body))


def to_entry(row: Row) -> Entry:
    """Raises `Damaged`: nothing is guessed."""
    if [type(value) for value in row] != [int, str, bytes, bytes]:
        raise Damaged("its columns are not what they were")
    if row.checksum != _checksum(row.seq, row.job, row.body):
        raise Damaged("its checksum does not fit")
    try:
        entry = _decoder.decode(row.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"it cannot be read ({error})") from error
    if entry.job != row.job:
        raise Damaged("it is about another job")
    return entry


def _checksum(seq: int, job: str, body: bytes) -> bytes:
    return xxhash.xxh3_128_digest(b"%d\0%s\0%s" % (seq, job.encode(), body))
