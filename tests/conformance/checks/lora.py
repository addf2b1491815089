"""Whether an adapter that a role loads gives the bits of the plain pipeline with the same one."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from roles.split.files.components import Part, part_of
from roles.split.weights.adapters import Adapters
from tests.conformance import modular, plain
from tests.conformance.checks.split import difference
from tests.conformance.reasons import reason_of
from tests.conformance.subject import ROLES, SEED, Subject
from tests.conformance.verdict import Lora
from tests.support.loras import random_layers, save
from tests.support.splitting import Arrays, arrays, same
from transfer import messages

NAME = "painted"
SCALE = 0.75
USUAL = {"to_q", "to_k", "to_v"}
OTHERWISE = 4  # as many of the other layers' names, where a model calls its own differently


def check(subject: Subject) -> Lora:
    """One for the denoisers, then, where the pipeline takes such, one for the encoders."""
    if not hasattr(subject.kind, "load_lora_weights"):
        return Lora("none", "diffusers loads no LoRA into this class")
    subject.passage()
    found = _of_part(subject, "denoiser")
    if found.holds != "yes":
        return found
    encoders = _of_part(subject, "encoder")
    if encoders.holds == "yes":
        return Lora("yes", parts=found.parts + encoders.parts)
    return encoders if encoders.holds == "no" else found


def _of_part(subject: Subject, part: Part) -> Lora:
    """Of an adapter for all components of a kind; "none" where there is nothing to compare."""
    place = subject.folder.parent / f"adapter-{part}"
    parts = random_adapter(subject, place, part)
    if not parts:
        what = {"denoiser": "what denoises", "encoder": "what encodes"}[part]
        return Lora("none", f"its LoRA loader has nothing for {what}")
    try:
        known = _plain(subject, place)
    except Exception as error:
        return Lora("none", f"the plain pipeline takes no adapter: {reason_of(error)}", parts)
    if same(known, subject.plain("float32")):
        return Lora("none", "the adapter changes nothing in the plain pipeline", parts)
    apart = difference(_served(subject, place), known)
    return Lora("no" if apart else "yes", apart and f"{', '.join(parts)}: {apart}", parts)


def _served(subject: Subject, place: Path) -> Arrays:
    """What comes through the roles of a request that has it on."""
    takers = list(_takers(subject))
    try:
        for each in takers:
            each.load(NAME, str(place))
        call = subject.call(loras=[messages.Lora(NAME, SCALE)])
        return arrays(subject.through(call, whole=subject.looping == "monolithic").samples)
    finally:
        for each in takers:
            each.unload(NAME)


def _takers(subject: Subject) -> Iterator[Adapters]:
    """The adapters of each role that has anything which they may change: all load all of them,
    whichever they are for."""
    for role in ["monolithic"] if subject.looping == "monolithic" else ROLES:
        found = subject.program(role).adapters
        if found is not None and found.components:
            yield found


def _plain(subject: Subject, place: Path) -> Arrays:
    """What the plain pipeline makes with the adapter."""

    def wear(pipeline: Any) -> None:
        pipeline.load_lora_weights(place, adapter_name=NAME)
        pipeline.set_adapters([NAME], [SCALE])

    arguments = subject.case.arguments()
    if modular.is_modular(subject.kind):
        made = modular.plain(subject.folder, arguments, "float32", SEED, wear)
        return plain.arrays(made)
    pipeline = _loaded(subject)
    wear(pipeline)
    return plain.made_by(pipeline, arguments, SEED)


def random_adapter(subject: Subject, place: Path, part: Part) -> list[str]:
    """Saves one, large enough to be seen; the components that it is for."""
    pipeline = _loaded(subject)
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, module in pipeline.components.items():
        if part_of(name) == part and _takes(pipeline, name) and hasattr(module, "add_adapter"):
            layers[name] = random_layers(module, _targets(module), 3)
    if layers:
        save(layers, place)
    return sorted(layers)


def _takes(pipeline: Any, name: str) -> bool:
    """Whether an adapter of this pipeline may change the component: what diffusers saves one for,
    since some load one into more than they say, if they are asked to (Wan's second transformer)."""
    saving = inspect.signature(getattr(pipeline, "save_lora_weights", pipeline.load_lora_weights))
    saved = [each for each in saving.parameters if each.endswith("_lora_layers")]
    return f"{name}_lora_layers" in saved if saved else name in pipeline._lora_loadable_modules


def _loaded(subject: Subject) -> Any:
    if modular.is_modular(subject.kind):
        return modular.load(subject.folder, "float32")
    return plain.load(subject.kind, subject.folder, "float32")


def _targets(module: Any) -> list[str]:
    """The names of its linear layers in blocks: those of attention, as they are usually called, or
    some of what there is."""
    named = {name: isinstance(each, torch.nn.Linear) for name, each in module.named_modules()}
    others = {name.rpartition(".")[2] for name, linear in named.items() if not linear}
    blocks = [name for name, linear in named.items() if linear and any(map(str.isdigit, name))]
    leaves = {name.rpartition(".")[2] for name in blocks} - others
    leaves = {leaf for leaf in leaves if not leaf.isdigit()}
    return sorted(leaves & USUAL) or sorted(leaves)[:OTHERWISE]
