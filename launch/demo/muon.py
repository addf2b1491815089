"""Muon (https://kellerjordan.github.io/posts/muon/): momentum, orthogonalised matrix by matrix.

PyTorch's own `torch.optim.Muon` orthogonalises in bfloat16, one matrix at a time; on a CPU without
bfloat16 instructions float32 and one batch per shape are several times as quick.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """Near-orthogonal matrices with the same singular vectors, `[count, rows, columns]`."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    For matrices, and for convolution kernels, whose inputs and window count as columns.
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update from the gradients at hand."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                by_shape[matrix.shape].append(matrix)
            for alike in by_shape.values():
                directions = torch.stack([self._momentum(m, group["momentum"]) for m in alike])
                flat = directions.flatten(2)
                scale = max(1.0, flat.shape[1] / flat.shape[2]) ** 0.5
                updates = orthogonalised(flat).view_as(directions).unbind()
                torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(alike, updates, alpha=-group["lr"] * scale)

    def _momentum(self, matrix: Parameter, momentum: float) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        running: Tensor = state["momentum"].mul_(momentum).add_(matrix.grad)
        return running.mul(momentum).add_(matrix.grad)
