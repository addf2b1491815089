"""Weights that random initialisation leaves without any effect, or as the memory was."""

import torch


def awaken(module: torch.nn.Module) -> torch.nn.Module:
    """The module, with small random numbers in the parameters that are all zero, as what a
    ControlNet adds is before it was trained, or that nothing was written to."""
    for parameter in module.parameters():
        if not parameter.any() or not parameter.isfinite().all():
            torch.nn.init.normal_(parameter, std=0.05)
    return module


def fill(module: torch.nn.Module, *names: str) -> torch.nn.Module:
    """The module, with small random numbers in the parameters of these names, to which diffusers
    writes nothing before it has read a file."""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] in names:
            torch.nn.init.normal_(parameter, std=0.05)
    return module
