"""What several processes share in the middle of a loss: rows gathered with their gradients, sums of small tensors."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter


def world_size() -> int:
    """Number of processes; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 outside a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_rows(rows: Tensor) -> Tensor:
    """All processes' rows [n, ...] in the order of ranks, [processes x n, ...]; gradients flow back.

    Every process must hold equally many rows. The gradient of a row is the sum over all processes' losses, so that
    averaging parameter gradients over processes (DDP) gives the gradient of the mean loss.
    """
    if world_size() == 1:
        return rows
    return torch.cat(differentiable.all_gather(rows.contiguous()))


@torch.no_grad()
def gather_detached(rows: Tensor) -> Tensor:
    """All processes' rows [n, ...] (labels, keys), in the order of ranks [processes x n, ...], without gradient."""
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Mean over processes of the gradients that exist, in one message; for passes outside a data-parallel wrapper."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, _unflatten_dense_tensors(flat, gradients)):
        gradient.copy_(mean)


def mean_over_processes(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Mean of each value over processes; every process must hold the same names."""
    if world_size() == 1:
        return values
    row = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(row)
    return dict(zip(values, (row / world_size()).tolist()))
