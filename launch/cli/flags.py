"""Flags that several commands share, with their defaults and their words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from launch.addresses import DEFAULT_HTTP, DEFAULT_URL
from launch.cli.values import BYTES, HOST_PORT, MODEL_NAME, RATE, STEP_CACHE
from roles.options import (
    CHECKPOINT_S,
    ENCODER_CACHE,
    MAX_BATCH,
    QUANTIZED,
    RANK_TIMEOUT_S,
    SCHEDULE,
    SLOT_BYTES,
    SLOTS,
)

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

COUNT = click.IntRange(min=1)


def url_flag(function: Wrapped) -> Wrapped:
    return click.option(
        "--url",
        default=DEFAULT_URL,
        envvar="TRIPTYCH_URL",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Where the cluster's HTTP front door is.",
    )(key_flag(function))


def key_flag(function: Wrapped) -> Wrapped:
    return click.option(
        "--api-key",
        envvar="TRIPTYCH_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="For a cluster that asks for one. Rather set the variable: others may see the command "
        "lines of a machine.",
    )(function)


def keys_flag(function: Wrapped) -> Wrapped:
    """Read by `transfer.keys.cluster_keys`, which knows the variable and the default."""
    return click.option(
        "--keys",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="The folder of the cluster's key pair (`triptych keygen` makes one; every host needs "
        "the same). [env var: TRIPTYCH_KEYS; default: one in the user's state folder, made when "
        "first needed]",
    )(function)


def front_flags(function: Wrapped) -> Wrapped:
    """What an orchestrator is told: the same words for `serve` and `up`."""
    return _all(
        function,
        click.option(
            "--http",
            type=HOST_PORT,
            default=DEFAULT_HTTP,
            show_default=True,
            metavar="HOST:PORT",
            help="Where clients reach the front door; port 0: any that is free.",
        ),
        click.option(
            "--max-models",
            type=COUNT,
            default=1,
            show_default=True,
            metavar="N",
            help="How many models may be served at a time. A role that brings one more is refused.",
        ),
        click.option(
            "--default-model",
            type=MODEL_NAME,
            metavar="NAME",
            help="The model that requests mean which name none, where several are served. "
            "[default: the only one; of several, a request has to name one]",
        ),
        click.option(
            "--policy",
            type=click.Choice(["least_backlog", "least_loaded", "round_robin"]),
            default="least_backlog",
            show_default=True,
            help="Which instance of a role gets the next request: the one with the fewest seconds "
            "of work, as predicted from what earlier requests took; the emptiest; or each in turn.",
        ),
        click.option(
            "--request-timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=600,
            show_default=True,
            metavar="SECONDS",
            help="A request that takes longer is given up.",
        ),
        click.option(
            "--max-queue",
            type=COUNT,
            default=1000,
            show_default=True,
            metavar="N",
            help="Requests that may wait for each model; more are turned away with 429.",
        ),
        click.option(
            "--max-attempts",
            type=COUNT,
            default=3,
            show_default=True,
            metavar="N",
            help="How often a request is tried before its client gets the error.",
        ),
        click.option(
            "--stall-timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=300,
            show_default=True,
            metavar="SECONDS",
            help="Without a sign of progress for so long, a request is tried elsewhere.",
        ),
        click.option(
            "--max-pixels",
            type=COUNT,
            default=1 << 23,
            show_default=True,
            metavar="N",
            help="Width x height that a picture may have; larger ones are turned away with 400.",
        ),
        click.option(
            "--api-keys",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Who may come in: a file with lines of `triptych apikey`. Read again when it "
            "changes. [default: everybody]",
        ),
        click.option(
            "--rate-limit",
            type=RATE,
            metavar="N/UNIT",
            help="How many POST requests each API key (without keys: each address) may send at "
            "once and in a second, minute, hour or day: 60/minute. More are turned away with 429. "
            "[default: no limit]",
        ),
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="A folder for what shall outlive it; made if missing. [default: nothing is kept]",
        ),
        click.option(
            "--journal",
            metavar="URL",
            help="Where the journal of jobs is kept: postgresql://USER@HOST/NAME, for which "
            "pip install 'triptych[postgres]', or sqlite:///PATH. [default: journal.db in "
            "--state-dir]",
        ),
        click.option(
            "--job-ttl",
            type=click.FloatRange(min=0, min_open=True),
            default=86_400,
            show_default=True,
            metavar="SECONDS",
            help="For how long finished jobs, and their files, are kept.",
        ),
        click.option(
            "--job-bytes",
            type=BYTES,
            default="10GiB",
            show_default=True,
            metavar="SIZE",
            help="How large the kept files of jobs may be together; the oldest make room.",
        ),
    )


def schedule_flag(function: Wrapped) -> Wrapped:
    """Of both kinds of processes: who goes first in a denoiser, and among those who wait."""
    return click.option(
        "--schedule",
        type=click.Choice(["sjf", "fifo", "round_robin"]),
        default=SCHEDULE,
        show_default=True,
        help="Who goes first among requests of one priority, in denoisers and in the line for "
        "them: sjf (the shortest predicted one, and nobody waits for ever), fifo, or round_robin "
        "(in denoisers, steps in turns; the line is fifo).",
    )(function)


def model_name_flag(function: Wrapped) -> Wrapped:
    return click.option(
        "--model-name",
        type=MODEL_NAME,
        metavar="NAME",
        help="What requests call the model (`model`); all its roles have to be given the same. "
        "[default: the name of its folder, or the hub id]",
    )(function)


def parallel_flag(function: Wrapped) -> Wrapped:
    return click.option(
        "--parallel",
        metavar="MODE[=N],…",
        help="How the ranks of an instance divide its work. Of a forward, the numbers multiply to "
        "--ranks, and one may be left out. guidance: its samples, such as branches of guidance; "
        "any model. ulysses, ring: the tokens of each sample; tensor: the weights of each layer; "
        "models with a plan in diffusers; they change the pixels by rounding. tiles: where it "
        "decodes, the tiles of the VAE's tiled decode, among all ranks. [default: guidance]",
    )(function)


def compute_flags(function: Wrapped) -> Wrapped:
    """How an instance computes and what memory it lends: the same words for `serve` and `up`."""
    return _all(
        function,
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            show_default=True,
            help="What is computed in; auto: what plain from_pretrained gives, mostly float32.",
        ),
        click.option(
            "--transfer",
            type=click.Choice(["auto", "shm", "mooncake"]),
            default="auto",
            show_default=True,
            help="How payloads travel; auto: shared memory on one host, Mooncake between hosts.",
        ),
        click.option(
            "--slots",
            type=COUNT,
            default=SLOTS,
            show_default=True,
            metavar="N",
            help="Pieces of memory for payloads: so many to send from in an encoder, so many for "
            "others to write into in a decoder, both in a denoiser or where roles share a process.",
        ),
        click.option(
            "--slot-bytes",
            type=BYTES,
            default=f"{SLOT_BYTES >> 20}MiB",
            show_default=True,
            metavar="SIZE",
            help="Memory of one slot (64k, 4MiB, 1g; k, M, G are 1024s). A payload may span "
            "several, and must fit into all of them together.",
        ),
        click.option(
            "--max-batch",
            type=COUNT,
            default=MAX_BATCH,
            show_default=True,
            metavar="N",
            help="Requests that share a forward at most, where that pays; and that one instance "
            "has at a time, with one more that waits, of each priority.",
        ),
        click.option(
            "--checkpoint",
            type=click.FloatRange(min=0),
            default=CHECKPOINT_S,
            show_default=True,
            metavar="SECONDS",
            help="A denoiser keeps the state of a request each time that it has computed on it for "
            "so long, so that it can go on from there when its rank dies, and has another denoiser "
            "keep a copy, where there is room, for when it dies itself; 0: never.",
        ),
        click.option(
            "--rank-timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=RANK_TIMEOUT_S,
            show_default=True,
            metavar="SECONDS",
            help="A rank that works for so long on one encode, slice of steps or decode is hung: "
            "it is killed and started again, and its requests are tried elsewhere.",
        ),
        click.option(
            "--encoder-cache",
            type=BYTES,
            default=f"{ENCODER_CACHE >> 20}MiB",
            show_default=True,
            metavar="SIZE",
            help="Device memory in which an encoder keeps what it has encoded: a text that comes "
            "again is not encoded again. 0: nothing is kept.",
        ),
        click.option(
            "--media-store",
            metavar="DIR_OR_URL",
            help="A folder, or an fsspec URL, that front door and roles both reach, for finished "
            "files. [default: they are streamed from the role that made them]",
        ),
    )


def speed_flags(function: Wrapped) -> Wrapped:
    """How the transformer runs, of instances that denoise: the same words for `serve` and `up`."""
    return _all(
        function,
        click.option(
            "--compile/--no-compile",
            default=False,
            show_default=True,
            help="Compile the transformer's repeated blocks (torch.compile) and run them once at "
            "the start, which takes seconds to minutes. Changes the pixels by rounding.",
        ),
        click.option(
            "--attention-backend",
            metavar="NAME",
            help="Of diffusers: flash, sage, xformers, flex, _native_math … what is not part of "
            "torch has to be installed. Changes the pixels by rounding. [default: native]",
        ),
        click.option(
            "--quantize",
            type=click.Choice(QUANTIZED),
            help="What the transformer's weights become while they are loaded: less memory, other "
            "pixels. Needs torchao. [default: not quantized]",
        ),
        click.option(
            "--step-cache",
            type=STEP_CACHE,
            metavar="TYPE[:NUMBER]",
            help="For requests that ask for none themselves: first_block[:THRESHOLD] (0.05, a "
            "relative change), taylorseer[:INTERVAL] (5 steps) or pyramid[:INTERVAL] (2 steps). "
            "Other pixels. [default: none]",
        ),
    )


def _all(function: Wrapped, *flags: Callable[[Any], Any]) -> Wrapped:
    for flag in reversed(flags):
        function = flag(function)
    return function
