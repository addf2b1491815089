"""What `triptych up` starts: the command lines of a cluster on this machine."""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import click

from launch.addresses import Address, free_port
from launch.child import Recipe
from launch.errors import LaunchError
from launch.itself import command
from launch.machine import this_machine
from launch.model import settle
from launch.origins import as_flags, origins_of
from launch.plan import Member, Plan, Wish, plan
from launch.weights import whole_bytes
from orchestrator.api_keys import hash_of, new_key
from roles.origins import Origins
from roles.parallel import divide
from transfer.addresses import is_loopback
from transfer.errors import KeysError
from transfer.messages import DENOISES
from transfer.speed import write_step_cache

_LOOPBACK, _ANY = "127.0.0.1", "0.0.0.0"
_OF_FRONT = (
    "max_models",
    "default_model",
    "policy",
    "request_timeout",
    "max_queue",
    "max_attempts",
    "stall_timeout",
    "max_pixels",
    "api_keys",
    "rate_limit",
    "state_dir",
    "journal",
    "job_ttl",
    "job_bytes",
)
_OF_ROLES = (
    "model_name",
    "advertise",
    "dtype",
    "transfer",
    "slots",
    "slot_bytes",
    "max_batch",
    "rank_timeout",
    "checkpoint",
    "encoder_cache",
)
_OF_BOTH = ("keys", "media_store", "schedule")


@dataclass(frozen=True)
class LocalCluster:
    """Every process of the cluster with fixed addresses, so that one that is started again is found
    where it was, and keeps its place in the order of its role."""

    http: Address
    control: Address
    plan: Plan
    orchestrator: Recipe
    instances: tuple[Recipe, ...]
    key: str | None = None  # with which the supervisor looks at a cluster that asks for one

    @classmethod
    def planned(cls, flags: dict[str, Any]) -> Self:
        """From the flags of `up`. Raises `LaunchError` for what can be seen to fail beforehand."""
        model, origins = settle(flags["model"]), origins_of(flags)
        _check_keys(flags["keys"])
        http: Address = flags["http"].settled()
        control: Address = flags["control"].settled()
        chosen = _plan(model, origins, flags)
        ports = {member.name: free_port(_ANY) for member in chosen.members}
        endpoints = {name: Address(flags["advertise"], port).tcp for name, port in ports.items()}
        key = new_key() if flags["api_keys"] is not None else None
        common = {name: flags[name] for name in (*_OF_ROLES, *_OF_BOTH)}
        common |= as_flags(origins)
        common["max_batch"] = flags["max_batch"] or chosen.max_batch
        shared = tuple(_flags({**common, **_cores(chosen)}))
        return cls(
            http=http,
            control=control,
            plan=chosen,
            orchestrator=_orchestrator(http, control, chosen, endpoints, flags, key),
            instances=tuple(
                _instance(
                    member,
                    model,
                    control,
                    _bound(flags, ports[member.name]),
                    shared + _speed(member.role, flags) + _ranks(member, flags),
                )
                for member in chosen.members
            ),
            key=key,
        )


def _cores(chosen: Plan) -> dict[str, Any]:
    """Instances whose threads were chosen for them may use each other's cores while those idle."""
    if not chosen.lends:
        return {}
    return {"cores": chosen.machine.cores, "cores_file": _cores_file()}


@functools.cache
def _cores_file() -> str:
    """An empty file without a name, for as long as this process lives."""
    fd = os.memfd_create("triptych-cores", os.MFD_CLOEXEC)
    return f"/proc/{os.getpid()}/fd/{fd}"


def _check_keys(folder: str | None) -> None:
    """One error for all processes, and one pair where none has been made yet."""
    from transfer.keys import cluster_keys

    try:
        cluster_keys(folder)
    except KeysError as error:
        raise LaunchError(str(error)) from error


def _plan(model: str, origins: Origins, flags: dict[str, Any]) -> Plan:
    names = ("encoders", "denoisers", "decoders", "monolithic", "device", "threads", "all_in_one")
    wish = Wish(**{name: flags[name] for name in names}, ranks=flags["ranks"])
    slots = flags["slots"] * flags["slot_bytes"]
    needs = whole_bytes(model, flags["dtype"], slots, origins.components)
    try:
        divide(flags["parallel"], flags["ranks"])
        return plan(this_machine(), wish, needs)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _orchestrator(
    http: Address,
    control: Address,
    chosen: Plan,
    endpoints: dict[str, str],
    flags: dict[str, Any],
    key: str | None,
) -> Recipe:
    declared = {
        f"{role}s": ",".join(endpoints[member.name] for member in chosen.of(role)) or None
        for role in ("encoder", "denoiser", "decoder")
    }
    values = {
        "disagg_role": "orchestrator",
        "http": http,
        "bind": control.tcp,
        **{name: flags[name] for name in (*_OF_FRONT, *_OF_BOTH)},
        "supervisor_key": hash_of(key.encode()) if key else None,
        **declared,
    }
    return Recipe("orchestrator", "orchestrator", _serve(_flags(values)))


def _instance(
    member: Member, model: str, control: Address, endpoint: str, shared: tuple[str, ...]
) -> Recipe:
    values = {
        "disagg_role": member.role,
        "name": member.name,
        "orchestrator": control.reachable.tcp,
        "model": model,
        "device": member.device,
        "threads": member.threads,
        "endpoint": endpoint,
    }
    return Recipe(member.role, member.name, _serve((*_flags(values), *shared)))


def _speed(role: str, flags: dict[str, Any]) -> tuple[str, ...]:
    """The flags of those that denoise."""
    if DENOISES.isdisjoint(role.split(",")):
        return ()
    cache = flags["step_cache"]
    values = {
        "attention_backend": flags["attention_backend"],
        "quantize": flags["quantize"],
        "step_cache": cache and write_step_cache(cache),
    }
    return (*_flags(values), *(["--compile"] if flags["compile"] else []))


def _ranks(member: Member, flags: dict[str, Any]) -> tuple[str, ...]:
    if member.ranks == 1:
        return ()
    return tuple(_flags({"ranks": member.ranks, "parallel": flags["parallel"]}))


def _bound(flags: dict[str, Any], port: int) -> str:
    """Where an instance listens: nowhere but here, unless other hosts are to reach it."""
    return Address(_LOOPBACK if is_loopback(flags["advertise"]) else _ANY, port).tcp


def _serve(flags: Iterable[str]) -> tuple[str, ...]:
    parent = ("--parent-pid", str(os.getpid()))  # no child outlives us, see `roles.lifeline`
    return command("serve", *flags, *parent)


def _flags(values: dict[str, Any]) -> Iterator[str]:
    """{"slot_bytes": 4096, "name": None, "component": ["a=b"]} → --slot-bytes 4096 --component
    a=b."""
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                yield from (f"--{name.replace('_', '-')}", str(each))
