"""Whether an adapter that a role loads gives the bits of the plain pipeline with the same one."""

import inspect
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict

from roles.split.components import part_of
from tests.conformance import modular, plain
from tests.conformance.checks.split import difference
from tests.conformance.reasons import reason_of
from tests.conformance.subject import SEED, Subject
from tests.conformance.verdict import Lora
from tests.support.splitting import Arrays, arrays, same
from transfer import messages

NAME = "painted"
USUAL = {"to_q", "to_k", "to_v"}
OTHERWISE = 4  # as many of the other layers' names, where a model calls its own differently


def check(subject: Subject) -> Lora:
    """One for the denoisers only (`tests/roles/split/test_text_adapters.py` has those that change
    text encoders, too); encoders that may be changed have loaded it nevertheless."""
    if modular.is_modular(subject.kind):
        return Lora("none", "adapters of modular pipelines are not judged yet")
    if not hasattr(subject.kind, "load_lora_weights"):
        return Lora("none", "diffusers loads no LoRA into this class")
    subject.passage()
    place = subject.folder.parent / "adapter"
    parts = random_adapter(subject, place)
    if not parts:
        return Lora("none", "its LoRA loader has nothing for what denoises")
    try:
        known = _plain(subject, place)
    except Exception as error:
        return Lora("none", f"the plain pipeline takes no adapter: {reason_of(error)}", parts)
    if same(known, subject.plain("float32")):
        return Lora("none", "the adapter changes nothing in the plain pipeline", parts)
    roles = ["monolithic"] if subject.looping == "monolithic" else ["encoder", "denoiser"]
    found = [subject.program(role).adapters for role in roles]
    takers = [each for each in found if each is not None and each.components]
    try:
        for each in takers:
            each.load(NAME, str(place))
        call = subject.call(loras=[messages.Lora(NAME)])
        whole = subject.looping == "monolithic"
        made = arrays(subject.through(call, whole=whole).samples)
    finally:
        for each in takers:
            each.unload(NAME)
    apart = difference(made, known)
    return Lora("no" if apart else "yes", apart, parts)


def _plain(subject: Subject, place: Path) -> Arrays:
    """What the plain pipeline makes with the adapter."""
    pipeline = plain.load(subject.kind, subject.folder, "float32")
    pipeline.load_lora_weights(place, adapter_name=NAME)
    return plain.made_by(pipeline, subject.case.arguments(), SEED)


def random_adapter(subject: Subject, place: Path) -> list[str]:
    """Saves one, large enough to be seen, as diffusers saves it; the components that it is for."""
    pipeline = plain.load(subject.kind, subject.folder, "float32")
    takes = inspect.signature(subject.kind.save_lora_weights).parameters
    layers = {}
    for name, part in pipeline.components.items():
        argument = f"{name}_lora_layers"
        if argument in takes and part_of(name) == "denoiser" and hasattr(part, "add_adapter"):
            layers[argument] = _layers(part)
    if layers:
        subject.kind.save_lora_weights(place, **layers)
    return sorted(argument.removesuffix("_lora_layers") for argument in layers)


def _layers(module: Any) -> dict[str, torch.Tensor]:
    module.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=_targets(module)))
    generator = torch.Generator().manual_seed(3)
    state = get_peft_model_state_dict(module, adapter_name="default")
    return {key: torch.randn(value.shape, generator=generator) / 2 for key, value in state.items()}


def _targets(module: Any) -> list[str]:
    """The names of its linear layers in blocks: those of attention, as they are usually called, or
    some of what there is."""
    named = {name: isinstance(each, torch.nn.Linear) for name, each in module.named_modules()}
    others = {name.rpartition(".")[2] for name, linear in named.items() if not linear}
    blocks = [name for name, linear in named.items() if linear and any(map(str.isdigit, name))]
    leaves = {name.rpartition(".")[2] for name in blocks} - others
    leaves = {leaf for leaf in leaves if not leaf.isdigit()}
    return sorted(leaves & USUAL) or sorted(leaves)[:OTHERWISE]
