"""`triptych serve`: one process of a cluster, the orchestrator or an instance of roles."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from launch.addresses import DEFAULT_CONTROL
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
from launch.cli.hosts import hosts
from launch.cli.origins import MODEL_HELP, origin_flags
from launch.cli.values import DEVICE, HOST_PORT, ROLES, TCP, TCP_LIST
from launch.errors import LaunchError
from launch.machine import usable_cores
from launch.model import settle
from launch.origins import origins_of
from roles.lifeline import tie_to
from roles.options import SLICE_S
from roles.parallel import divide, of_roles
from transfer.messages import DECODES, DENOISES

if TYPE_CHECKING:
    from orchestrator.options import OrchestratorOptions
    from roles.options import RoleOptions

# Which flags belong to which kind of process; those in neither belong to both.
OF_ROLES = (
    "orchestrator",
    "model",
    "model_name",
    "model_config",
    "component",
    "variant",
    "name",
    "device",
    "ranks",
    "parallel",
    "nnodes",
    "node_rank",
    "rendezvous",
    "threads",
    "dtype",
    "compile",
    "attention_backend",
    "quantize",
    "step_cache",
    "transfer",
    "slots",
    "slot_bytes",
    "max_batch",
    "checkpoint",
    "rank_timeout",
    "encoder_cache",
    "slice",
    "advertise",
    "endpoint",
    "cores",
    "cores_file",
)
OF_DENOISERS = (
    "nnodes",
    "node_rank",
    "rendezvous",
    "compile",
    "attention_backend",
    "quantize",
    "step_cache",
)
OF_ORCHESTRATOR = (
    "bind",
    "http",
    "max_models",
    "default_model",
    "policy",
    "request_timeout",
    "max_queue",
    "max_attempts",
    "stall_timeout",
    "max_pixels",
    "api_keys",
    "supervisor_key",
    "rate_limit",
    "state_dir",
    "journal",
    "job_ttl",
    "job_bytes",
    "encoders",
    "denoisers",
    "decoders",
)

SECTIONS = ("All processes", "Roles", "Orchestrator")


class Serve(Command):
    """Its help tells the flags of roles from those of the orchestrator."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                sections[_section(param.name)].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _section(name: str | None) -> str:
    if name in OF_ROLES:
        return "Roles"
    return "Orchestrator" if name in OF_ORCHESTRATOR else "All processes"


@click.command(cls=Serve, short_help="Run one process of a cluster.")
@click.option(
    "--disagg-role",
    "roles",
    type=ROLES,
    required=True,
    metavar="ROLE[,ROLE…]",
    help="What this process is: orchestrator; encoder, denoiser, decoder or several of these "
    "joined by commas; or monolithic, the whole pipeline in one process.",
)
@click.option(
    "--orchestrator",
    type=TCP,
    default=DEFAULT_CONTROL,
    show_default=True,
    metavar="tcp://HOST:PORT",
    help="The orchestrator's control address (its --bind).",
)
@click.option(
    "--model",
    metavar="DIR|FILE|ID[@REVISION]",
    help=MODEL_HELP,
)
@model_name_flag
@origin_flags
@click.option(
    "--name",
    metavar="NAME",
    help="Unique in the cluster. [default: the roles and four random digits]",
)
@click.option(
    "--device",
    type=DEVICE,
    default="cpu",
    show_default=True,
    metavar="cpu|cuda[:N]",
    help="Where to compute; rank r takes cuda:N+r.",
)
@click.option(
    "--ranks",
    type=COUNT,
    metavar="N",
    help="Worker processes of this instance, on all its hosts together, each with a device of its "
    "own. [default: one on each host]",
)
@parallel_flag
@click.option(
    "--nnodes",
    type=COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="Hosts that have ranks of this instance, as many each. On each of them the same command "
    "is started, with a --node-rank of its own and the cluster's keys.",
)
@click.option(
    "--node-rank",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="Which of the --nnodes hosts this is, from 0 on. Node 0 is the instance to all others; "
    "the rest have only ranks, and take all but --model, --device and --keys from it.",
)
@click.option(
    "--rendezvous",
    type=HOST_PORT,
    metavar="HOST:PORT",
    help="Where the hosts of an instance meet: an address of node 0, in a private network, and a "
    "free port. The port is behind the cluster's key; what ranks send each other goes over ports "
    "of their own, is not encrypted, and open to that network.",
)
@click.option(
    "--threads",
    type=COUNT,
    metavar="N",
    help="CPU threads of each rank. Give it where several instances are started one by one on one "
    "host: each would take all cores. [default: cores of the affinity mask and the container's "
    "quota, divided by the ranks on this host]",
)
@keys_flag
@schedule_flag
@compute_flags
@speed_flags
@click.option(
    "--slice",
    type=click.FloatRange(min=0),
    default=SLICE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long one request is denoised, at least one forward, before another has its turn.",
)
@click.option(
    "--advertise",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="The name or address under which other hosts reach this one.",
)
@click.option(
    "--endpoint",
    type=TCP,
    metavar="tcp://HOST:PORT",
    help="Where finished files are read from. [default: a free port]",
)
@click.option(
    "--bind",
    type=TCP,
    default=DEFAULT_CONTROL,
    show_default=True,
    metavar="tcp://HOST:PORT",
    help="Where roles reach it.",
)
@front_flags
@click.option(
    "--encoders",
    type=TCP_LIST,
    default="",
    metavar="URL,URL…",
    help="Endpoints of encoders in the order in which they count. Others may still "
    "join, and come after these in the order in which they do.",
)
@click.option("--denoisers", type=TCP_LIST, default="", metavar="URL,URL…", help="As --encoders.")
@click.option("--decoders", type=TCP_LIST, default="", metavar="URL,URL…", help="As --encoders.")
@click.option("--cores", type=COUNT, hidden=True, help="That it shares with others of this host.")
@click.option("--cores-file", hidden=True, help="Through which it learns who else computes.")
@click.option("--supervisor-key", hidden=True, help="The hash of one more API key.")
@click.option("--parent-pid", type=int, hidden=True, help="End when this process ends.")
@click.pass_context
def serve(
    ctx: click.Context, /, roles: tuple[str, ...], parent_pid: int | None, **flags: Any
) -> int:
    """Run one process of a cluster in the foreground: the orchestrator, or an instance of roles.

    It prints one JSON line on standard output when it is ready, and logs to standard error.
    SIGTERM lets it finish what it has and exit with 0; a second one ends it at once.

    \b
    triptych serve --disagg-role orchestrator
    triptych serve --disagg-role encoder,decoder --model FOLDER
    triptych serve --disagg-role denoiser --model FOLDER --device cuda:0
    """
    if parent_pid is not None:
        tie_to(parent_pid)
    orchestrator = roles == ("orchestrator",)
    _refuse_foreign(ctx, OF_ROLES if orchestrator else OF_ORCHESTRATOR, roles)
    if not DENOISES & set(roles):
        _refuse_foreign(ctx, OF_DENOISERS, roles)
    _refuse_foreign_modes(ctx, flags["parallel"], roles)
    if orchestrator:
        front = orchestrator_options(flags)
        from orchestrator import server

        return server.serve(front)
    instance = role_options(roles, flags)
    if instance.node_rank > 0:
        from roles.nodes import node

        return node.serve(instance)
    from roles.leader import leader

    return leader.serve(instance)


def orchestrator_options(flags: dict[str, Any]) -> "OrchestratorOptions":
    from orchestrator.options import OrchestratorOptions

    return OrchestratorOptions(
        bind=flags["bind"].tcp,
        http=str(flags["http"]),
        keys=flags["keys"],
        state_dir=_made(flags["state_dir"]),
        journal=flags["journal"],
        job_ttl_s=flags["job_ttl"],
        job_bytes=flags["job_bytes"],
        max_models=flags["max_models"],
        default_model=flags["default_model"],
        policy=flags["policy"],
        schedule=flags["schedule"],
        encoders=list(flags["encoders"]),
        denoisers=list(flags["denoisers"]),
        decoders=list(flags["decoders"]),
        media_store=flags["media_store"],
        request_timeout_s=flags["request_timeout"],
        max_queue=flags["max_queue"],
        max_attempts=flags["max_attempts"],
        stall_timeout_s=flags["stall_timeout"],
        max_pixels=flags["max_pixels"],
        api_keys=flags["api_keys"] and str(flags["api_keys"].resolve()),
        supervisor_key=flags["supervisor_key"],
        rate_limit=flags["rate_limit"],
    )


def role_options(roles: tuple[str, ...], flags: dict[str, Any]) -> "RoleOptions":
    from roles.options import RoleOptions

    where = hosts(roles, flags)
    parallel = _parallel(flags["parallel"], where.ranks, roles)
    if not flags["model"]:
        raise click.UsageError(f"--model is missing: {','.join(roles)} needs a model")
    endpoint = flags["endpoint"]
    return RoleOptions(
        orchestrator=flags["orchestrator"].tcp,
        model=settle(flags["model"]),
        model_name=flags["model_name"],
        origins=origins_of(flags),
        roles=roles,  # type: ignore[arg-type]  # checked by ROLES
        name=flags["name"],
        device=flags["device"],
        dtype=flags["dtype"],
        compile=flags["compile"],
        attention_backend=_attention(flags["attention_backend"]),
        quantize=flags["quantize"],
        step_cache=flags["step_cache"],
        ranks=where.ranks,
        nnodes=where.nnodes,
        node_rank=where.node_rank,
        rendezvous=where.rendezvous,
        parallel=parallel,
        transfer=flags["transfer"],
        slots=flags["slots"],
        slot_bytes=flags["slot_bytes"],
        max_batch=flags["max_batch"],
        checkpoint_s=flags["checkpoint"],
        schedule=flags["schedule"],
        rank_timeout_s=flags["rank_timeout"],
        encoder_cache=flags["encoder_cache"],
        slice_s=flags["slice"],
        threads=flags["threads"] or max(1, usable_cores() // where.ranks_here),
        advertise=flags["advertise"],
        endpoint=endpoint and endpoint.tcp,
        keys=flags["keys"],
        media_store=flags["media_store"],
        cores=flags["cores"] or 0,
        cores_file=flags["cores_file"],
    )


def _parallel(text: str | None, ranks: int, roles: tuple[str, ...]) -> str | None:
    """What of it concerns these roles. Checked here, where the mistake is. What several roles share
    may say it for those that denoise and those that decode."""
    try:
        mine = of_roles(text, bool(DENOISES & set(roles)), bool(DECODES & set(roles)))
        if mine is not None or DENOISES & set(roles):
            divide(mine, ranks)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return mine


def _attention(backend: str | None) -> str | None:
    """`native` is what there is without the flag, and changes nothing."""
    return None if backend == "native" else backend


def _refuse_foreign(ctx: click.Context, foreign: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """A flag on the command line that this role has no use for is a mistake; in a file that several
    roles share it is not."""
    for name in foreign:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} is no flag of --disagg-role {','.join(roles)}")


def _refuse_foreign_modes(ctx: click.Context, text: str | None, roles: tuple[str, ...]) -> None:
    """The same for what `--parallel` names."""
    if text is None or ctx.get_parameter_source("parallel") is not ParameterSource.COMMANDLINE:
        return
    if not DENOISES & set(roles) and not (DECODES & set(roles) and "tiles" in text):
        _refuse_foreign(ctx, ("parallel",), roles)
    if not DECODES & set(roles) and "tiles" in text:
        raise click.UsageError(
            f"--parallel {text}: tiles are divided where pictures are decoded, "
            f"not in --disagg-role {','.join(roles)}"
        )


def _made(folder: Path | None) -> str | None:
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"cannot make --state-dir {folder}: {error.strerror}") from error
    return str(folder.resolve())
