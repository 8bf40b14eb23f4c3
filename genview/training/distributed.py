"""What several processes share in the middle of a loss: rows gathered with their gradients, sums of small tensors."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor


def world_size() -> int:
    """Number of processes; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 outside a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_rows(rows: Tensor) -> Tensor:
    """All processes' rows, in the order of ranks; gradients flow back to the process that a row came from.

    Every process must hold equally many rows. The gradient of a row is the sum over all processes' losses, so that
    averaging parameter gradients over processes (DDP) gives the gradient of the mean loss.
    """
    if world_size() == 1:
        return rows
    return torch.cat(differentiable.all_gather(rows.contiguous()))


def gather_labels(labels: Tensor) -> Tensor:
    """All processes' integer labels, in the order of ranks (no gradient)."""
    if world_size() == 1:
        return labels
    parts = [torch.empty_like(labels) for _ in range(world_size())]
    dist.all_gather(parts, labels.contiguous())
    return torch.cat(parts)
