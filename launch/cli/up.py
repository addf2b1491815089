"""`triptych up`: a whole cluster on this machine, supervised."""

from typing import Any

import click
from click.core import ParameterSource

from launch.cli.command import Command
from launch.cli.flags import (
    COUNT,
    compute_flags,
    front_flags,
    keys_flag,
    model_name_flag,
    parallel_flag,
    schedule_flag,
    speed_flags,
)
from launch.cli.origins import MODEL_HELP, origin_flags
from launch.cli.values import DEVICE, TCP

NUMBER = click.IntRange(min=0)


@click.command(cls=Command, short_help="Run a whole cluster on this machine, supervised.")
@click.option(
    "--model",
    required=True,
    metavar="DIR|FILE|ID[@REVISION]",
    help=MODEL_HELP,
)
@model_name_flag
@origin_flags
@click.option("--encoders", type=NUMBER, metavar="N", help="Encoders. [default: 1, if any count]")
@click.option(
    "--denoisers",
    type=NUMBER,
    metavar="N",
    help="Denoisers. [default: one for each CUDA device; without any, if any count is given, one "
    "for every 8 cores, at least 1 and at most 4]",
)
@click.option("--decoders", type=NUMBER, metavar="N", help="Decoders. [default: 1, if any count]")
@click.option(
    "--all-in-one",
    type=NUMBER,
    metavar="N",
    help="Instances that serve all three roles in one process; then the other counts are 0 unless "
    "given. [default: without CUDA devices, and if no count is given, one for each core, as many "
    "as the memory holds, at most 8]",
)
@click.option(
    "--monolithic",
    type=NUMBER,
    metavar="N",
    help="Instances that run the whole pipeline, for models that cannot be split; then the other "
    "counts are 0 unless given. [default: 0]",
)
@front_flags
@click.option(
    "--control",
    type=TCP,
    default="tcp://127.0.0.1:0",
    metavar="tcp://HOST:PORT",
    help="Where roles reach the orchestrator; give a port for roles on other hosts to join. "
    "[default: a free port of this machine]",
)
@click.option(
    "--advertise",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="The name or address of this machine for roles on other hosts that join at --control.",
)
@click.option(
    "--device",
    type=DEVICE,
    metavar="cpu|cuda[:N]",
    help="Where all roles compute. [default: the CUDA devices, or cpu if there are none]",
)
@click.option(
    "--ranks",
    type=COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes of each instance that denoises, which divide its forwards, each with a "
    "device of its own. Faster single requests; for more of them, more instances are better.",
)
@parallel_flag
@click.option(
    "--threads",
    type=COUNT,
    metavar="N",
    help="CPU threads of each rank. [default: usable cores divided by all ranks, at least 1]",
)
@keys_flag
@schedule_flag
@compute_flags
@speed_flags
@click.option(
    "--start-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Give up when a role has not come up after so long.",
)
@click.option("--end-with-stdin", is_flag=True, hidden=True, help="Stop when stdin is closed.")
@click.pass_context
def up(ctx: click.Context, /, **flags: Any) -> int:
    """Start orchestrator, encoders, denoisers and decoders on this machine, and look after them.

    It prints one JSON line on standard output when the cluster can be used. A role that dies is
    started again. SIGTERM or Ctrl-C lets running requests finish and stops everything; a second
    one stops at once.

    \b
    triptych up --model launch/demo/model
    triptych generate "a yellow star" -o star.png
    """
    from launch.local import LocalCluster
    from launch.supervisor import supervise

    if ctx.get_parameter_source("max_batch") is ParameterSource.DEFAULT:
        flags["max_batch"] = None  # for the plan to choose
    cluster = LocalCluster.planned(flags)
    return supervise(cluster, flags["start_timeout"], flags["end_with_stdin"])
