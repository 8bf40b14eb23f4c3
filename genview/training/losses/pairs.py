"""Losses of pairs of views: InfoNCE with a queue, InfoNCE within the batch, and the negative cosine.

Shapes: B samples per process, K negatives, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.training.loop.distributed import gather_detached, rank
from genview.training.losses.precision import full_precision, mean_over_samples


@full_precision
def info_nce(
    queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """InfoNCE of each query with its key against a common set of negatives (MoCo, arXiv 1911.05722, eq. 1).

    Args:
        queries: [B, D], any length; L2-normalised here, like keys and negatives.
        keys: [B, D]; no gradient.
        negatives: [K, D]; no gradient.
        temperature: divides the cosine similarities.
        weights: [B] constants, one for each pair of query and key; the negatives are not weighted.

    Returns:
        Scalar: the weighted cross-entropies' mean over this process's samples.
    """
    queries, keys, negatives = (F.normalize(rows, dim=-1) for rows in (queries, keys.detach(), negatives.detach()))
    logits = torch.cat([(queries * keys).sum(-1, keepdim=True), queries @ negatives.T], dim=1) / temperature
    return mean_over_samples(-F.log_softmax(logits, dim=1)[:, 0], weights)


@full_precision
def in_batch_contrast(queries: Tensor, keys: Tensor, *, temperature: float, weights: Tensor | None = None) -> Tensor:
    """MoCo v3's loss in one direction: InfoNCE among all processes' keys, times 2 x temperature (arXiv 2104.02057).

    Args:
        queries: [B, D], any length; L2-normalised here, like keys.
        keys: [B, D] of the same samples in the same order; no gradient.
        temperature: divides the cosine similarities; the loss is scaled by twice its value, as published.
        weights: [B] constants, one for each sample.

    Returns:
        Scalar: the mean over this process's samples.
    """
    queries = F.normalize(queries, dim=-1)
    everyone = gather_detached(F.normalize(keys.detach(), dim=-1))
    own = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
    terms = F.cross_entropy(queries @ everyone.T / temperature, own, reduction="none")
    return 2 * temperature * mean_over_samples(terms, weights)


@full_precision
def negative_cosine(predictions: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Minus the cosine between prediction and target (SimSiam, arXiv 2011.10566, eq. 1).

    Args:
        predictions: [B, D], any length.
        targets: [B, D]; no gradient.
        weights: [B] constants, one for each sample.

    Returns:
        Scalar in [-1, 1] without weights: the mean over this process's samples.
    """
    cosine = (F.normalize(predictions, dim=-1) * F.normalize(targets.detach(), dim=-1)).sum(-1)
    return mean_over_samples(-cosine, weights)
