"""SwAV's loss: crops predict the prototypes that other crops were assigned to (arXiv 2006.09882).

Shapes: B samples per process, K prototypes, Q entries of the queue per process.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from genview.training.loop.distributed import world_size
from genview.training.losses.precision import full_precision, mean_over_samples


def _logarithm_of_column_sums(rows: Tensor) -> Tensor:
    """log of the sum over all processes' rows of exp(rows): [1, K]."""
    highest = rows.amax(dim=0, keepdim=True)
    if world_size() > 1:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    sums = (rows - highest).exp().sum(dim=0, keepdim=True)
    if world_size() > 1:
        dist.all_reduce(sums)
    return sums.log() + highest


@full_precision
@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments of the samples to prototypes that use all prototypes equally (SwAV, eq. 3-5).

    Sinkhorn and Knopp's iteration on exp(scores / epsilon) over all processes' rows: prototypes to equal shares, then
    samples to one. Computed in logarithms, so that no score overflows.

    Args:
        scores: [B, K].
        epsilon: smoothness; small values assign more sharply.
        iterations: of both steps; at least 1.

    Returns:
        [B, K] without gradient; each row sums to 1.

    Raises:
        ValueError: fewer than one iteration.
    """
    if iterations < 1:
        raise ValueError(f"sinkhorn needs at least one iteration (got {iterations})")
    logarithms = scores / epsilon
    for _ in range(iterations):
        logarithms = logarithms - _logarithm_of_column_sums(logarithms)
        logarithms = logarithms.log_softmax(dim=1)
    return logarithms.exp()


@full_precision
def swapped_prediction(
    scores: Sequence[Tensor],
    assign_crops: Sequence[int] = (0, 1),
    *,
    temperature: float,
    epsilon: float = 0.05,
    iterations: int = 3,
    weights: Tensor | Mapping[tuple[int, int], Tensor] | None = None,
    queue_scores: Sequence[Tensor] | None = None,
) -> Tensor:
    """Cross-entropy of each crop's prediction with the assignments of the assigning crops (SwAV, eq. 2).

    Args:
        scores: one [B, K] for each crop: its normalised features times the prototypes.
        assign_crops: indexes of the crops whose assignments are predicted by all others.
        temperature: of the predictions.
        epsilon: of ``sinkhorn``; iterations: likewise.
        weights: [B] constants, one for each sample, or ``{(assigning crop, predicting crop): [B]}``, where a pair that
            is not stated weighs 1. Assignments are not weighted.
        queue_scores: for each assigning crop, in their order, [Q, K] of earlier features: they are balanced together
            with the batch, whose rows alone are predicted.

    Returns:
        Scalar: mean over assigning crops, over the other crops, and over this process's samples.

    Raises:
        ValueError: there is nothing to predict, or not one queue for each assigning crop.
    """
    if len(scores) < 2 or not assign_crops:
        raise ValueError(f"swapped_prediction needs two crops at least, and an assigning one (got {len(scores)})")
    if queue_scores is not None and len(queue_scores) != len(assign_crops):
        raise ValueError(f"queue_scores has {len(queue_scores)} entries for {len(assign_crops)} assigning crops")
    predictions = [F.log_softmax(score / temperature, dim=1) for score in scores]
    total = torch.zeros((), dtype=predictions[0].dtype, device=predictions[0].device)
    for place, assigning in enumerate(assign_crops):
        rows = scores[assigning].detach()
        if queue_scores is not None:
            rows = torch.cat([rows, queue_scores[place].detach().to(rows.dtype)])
        assignments = sinkhorn(rows, epsilon=epsilon, iterations=iterations)[: len(scores[assigning])]
        for crop, prediction in enumerate(predictions):
            if crop != assigning:
                weight = weights.get((assigning, crop)) if isinstance(weights, Mapping) else weights
                total = total + mean_over_samples(-(assignments * prediction).sum(dim=1), weight)
    return total / (len(assign_crops) * (len(scores) - 1))
