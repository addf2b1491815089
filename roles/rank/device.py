"""The device that a rank computes on: whether torch can use it."""

import torch


def take(device: str) -> None:
    """Makes it this process's own, where there are several and it can be."""
    if device.startswith("cuda") and refusal(device) is None:
        torch.cuda.set_device(device)


def refusal(device: str) -> str | None:
    """Why torch cannot use it, in one sentence for whoever gave the flag; None if it can."""
    if not device.startswith("cuda"):
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"--device {device}: this torch ({torch.__version__}) was built without CUDA"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return f"--device {device}: torch finds no CUDA device here; does nvidia-smi show one?"
    if (torch.device(device).index or 0) >= count:
        known = ", ".join(f"cuda:{number}" for number in range(count))
        return f"--device {device}: there is no such device here; there are {known}"
    return None
