"""The contrastive terms: multi-positive among views (StableRep, eq. 1-3) and image-text (CLIP), plain or weighted.

Shapes: V views, B samples per process, N = V * B rows in view-major order (row = view * B + sample); D, E widths.

Labels say which rows belong together and are compared across processes as they are: the caller makes them unique
(batch position + rank * B, see ``genview.training.methods``), or equal on purpose where two samples are one thing.
Within a process group each process's loss is the mean over its own rows, contrasted with all processes' rows; the
average over processes (what DDP makes of the gradients) is the loss of one process that holds the whole batch.

A weight multiplies a pair's share of the target, not the softmax's denominator, as published. ``weights`` covers pairs
of this process. A positive pair across processes exists only where labels repeat; it has no score and counts with
weight 1, the mean of the weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.training.loop.distributed import gather_detached, gather_rows, rank


def _cross_entropy(logits: Tensor, positive: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over rows of the cross-entropy with a target uniform over the row's positives; no positives count as 0."""
    target = positive.to(logits.dtype)
    target = target / target.sum(dim=1, keepdim=True).clamp(min=1)
    if weights is not None:
        target = target * weights
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def _all_columns(weights: Tensor | None, columns: int) -> Tensor | None:
    """Weights of the local columns, placed among all processes' columns; pairs across processes weigh 1."""
    if weights is None or weights.shape[1] == columns:
        return weights
    placed = weights.new_ones(weights.shape[0], columns)
    start = rank() * weights.shape[1]
    placed[:, start : start + weights.shape[1]] = weights
    return placed


def _check_weights(weights: Tensor | None, rows: int, columns: int) -> None:
    if weights is not None and weights.shape != (rows, columns):
        raise ValueError(f"weights have shape {tuple(weights.shape)}; expected {(rows, columns)}")


def multi_positive_loss(
    features: Tensor, labels: Tensor, *, temperature: float | Tensor, weights: Tensor | None = None
) -> Tensor:
    """Multi-positive contrastive loss among views (StableRep, eq. 3; GenView++'s weighted form).

    Args:
        features: [N, D], any length; L2-normalised here.
        labels: [N] integers; rows with equal labels are positives of each other, a row is not its own.
        temperature: divides the cosine similarities.
        weights: [N, N] of the process's own pairs, no gradient; None: all 1.

    Returns:
        Scalar of the features' dtype. A row without positives (one view) adds 0 and counts in the mean.
    """
    _check_weights(weights, len(features), len(features))
    features, labels = F.normalize(features, dim=-1), labels.reshape(-1)
    all_features, all_labels = gather_rows(features), gather_detached(labels)
    itself = torch.zeros(len(features), len(all_features), dtype=torch.bool, device=features.device)
    itself.diagonal(rank() * len(features)).fill_(True)
    logits = features @ all_features.T / temperature
    logits = logits.masked_fill(itself, torch.finfo(logits.dtype).min)
    positive = (labels[:, None] == all_labels[None, :]) & ~itself
    return _cross_entropy(logits, positive, _all_columns(weights, len(all_features)))


def image_text_loss(
    image: Tensor,
    text: Tensor,
    image_labels: Tensor,
    text_labels: Tensor,
    *,
    logit_scale: float | Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Symmetric image-text loss in which all views of a sample are positives of its caption (CLIP; GenView++).

    Args:
        image: [N, E]; text: [B, E]; both L2-normalised here.
        image_labels: [N] integers; text_labels: [B] integers; equal labels are positives.
        logit_scale: multiplies the cosine similarities; already exponentiated.
        weights: [N, B] of the process's own pairs, no gradient; None: all 1.

    Returns:
        Scalar: mean of the image-to-text and the text-to-image cross-entropy.
    """
    _check_weights(weights, len(image), len(text))
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    image_labels, text_labels = image_labels.reshape(-1), text_labels.reshape(-1)
    all_image, all_text = gather_rows(image), gather_rows(text)
    all_image_labels, all_text_labels = gather_detached(image_labels), gather_detached(text_labels)
    image_to_text = _cross_entropy(
        logit_scale * image @ all_text.T,
        image_labels[:, None] == all_text_labels[None, :],
        _all_columns(weights, len(all_text)),
    )
    text_to_image = _cross_entropy(
        logit_scale * text @ all_image.T,
        text_labels[:, None] == all_image_labels[None, :],
        _all_columns(None if weights is None else weights.T, len(all_image)),
    )
    return (image_to_text + text_to_image) / 2
