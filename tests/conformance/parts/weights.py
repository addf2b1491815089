"""Weights that random initialisation leaves without any effect."""

import torch


def awaken(module: torch.nn.Module) -> torch.nn.Module:
    """The module, with small random numbers in the parameters that are all zero, as what a
    ControlNet adds is before it was trained, or that nothing was written to."""
    for parameter in module.parameters():
        if not parameter.any() or not parameter.isfinite().all():
            torch.nn.init.normal_(parameter, std=0.05)
    return module
