"""Quality weights: how much a pair of views is worth, judged by a frozen encoder (GenView, eq. 10-13; GenView++).

A pair is good if the foregrounds agree and the backgrounds differ. Foreground and background are soft: the tokens'
projection on the encoder's oriented principal component (larger = foreground), scaled per image to [0, 1].

Shapes: V views, B samples, N = V * B rows in view-major order, T tokens, D their width, E the embedding's width.
Everything here is without gradient and belongs to one process's batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.training.loop.distributed import gather_rows, rank, world_size

_TINY = 1e-7
"""Guard of the published maps: a constant projection has no foreground (zeros) and an even background."""


def attention_maps(tokens: Tensor, component: Tensor) -> tuple[Tensor, Tensor]:
    """Soft foreground and background of each image (GenView, eq. 10).

    Args:
        tokens: [B, T, D]; half precision is raised to float32.
        component: [D], oriented so that larger = foreground; its length plays no part.

    Returns:
        Foreground [B, T] and background [B, T]; each sums to 1.
    """
    tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
    projection = tokens @ component.to(tokens).reshape(-1)
    low, high = projection.amin(dim=1, keepdim=True), projection.amax(dim=1, keepdim=True)
    foreground = (projection - low) / (high - low + _TINY)
    background = 1 - foreground
    return (
        foreground / (foreground.sum(dim=1, keepdim=True) + _TINY),
        background / (background.sum(dim=1, keepdim=True) + _TINY),
    )


def pooled(tokens: Tensor, component: Tensor) -> tuple[Tensor, Tensor]:
    """L2-normalised foreground [B, D] and background [B, D] features: tokens averaged by their maps."""
    foreground, background = attention_maps(tokens, component)
    tokens = tokens.to(foreground.dtype)
    return (
        F.normalize(torch.einsum("bt,btd->bd", foreground, tokens), dim=-1),
        F.normalize(torch.einsum("bt,btd->bd", background, tokens), dim=-1),
    )


def _mean_one(quality: Tensor, positive: Tensor, gamma: float) -> Tensor:
    """exp(gamma * quality) over its mean among the positive pairs; 0 elsewhere, and everywhere if there are none.

    Computed as a softmax over the positive pairs, so that no gamma overflows.
    """
    if not positive.any():
        return torch.zeros_like(quality)
    scores = (gamma * quality).masked_fill(~positive, -torch.inf)
    return positive.sum() * scores.flatten().softmax(dim=0).view_as(quality)


@torch.no_grad()
def image_image_weights(view_tokens: Tensor, component: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Weights of the pairs of views: exp(gamma (cos of foregrounds - cos of backgrounds)), mean 1 over the positives.

    Args:
        view_tokens: [V, B, T, D] of the frozen encoder.
        component: [D], oriented.
        labels: [N] integers; rows with equal labels are positives of each other, a row is not its own.
        gamma: sharpness; 0 makes all weights 1.

    Returns:
        [N, N]; 0 where the pair is not positive (all 0 for one view).
    """
    foreground, background = pooled(view_tokens.flatten(0, 1), component)
    labels = labels.reshape(-1)
    positive = labels[:, None] == labels[None, :]
    positive.fill_diagonal_(False)
    return _mean_one(foreground @ foreground.T - background @ background.T, positive, gamma)


@torch.no_grad()
def image_text_weights(
    view_tokens: Tensor,
    view_embeddings: Tensor,
    real_tokens: Tensor,
    text_embeddings: Tensor,
    component: Tensor,
    labels: Tensor,
    text_labels: Tensor,
    *,
    gamma: float,
) -> Tensor:
    """Weights of the pairs of view and caption, mean 1 over the positives.

    exp(gamma (cos(image embedding, text embedding) - cos(background of the view, background of the original))).

    Args:
        view_tokens: [V, B, T, D]; view_embeddings: [V, B, E]; of the frozen encoder.
        real_tokens: [B, T, D] of the originals; text_embeddings: [B, E] of the captions.
        component: [D], oriented.
        labels: [N] integers; text_labels: [B] integers.
        gamma: sharpness; 0 makes all weights 1.

    Returns:
        [N, B]; 0 where the pair is not positive.
    """
    _, original_background = pooled(real_tokens, component)
    return image_text_weights_of_features(
        view_tokens,
        view_embeddings,
        original_background,
        text_embeddings,
        component,
        labels,
        text_labels,
        gamma=gamma,
    )


@torch.no_grad()
def image_text_weights_of_features(
    view_tokens: Tensor,
    view_embeddings: Tensor,
    original_background: Tensor,
    text_embeddings: Tensor,
    component: Tensor,
    labels: Tensor,
    text_labels: Tensor,
    *,
    gamma: float,
) -> Tensor:
    """``image_text_weights`` where the originals' L2-normalised background features [B, D] are known already."""
    embeddings = view_embeddings.flatten(0, 1)
    dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    agreement = F.normalize(embeddings.to(dtype), dim=-1) @ F.normalize(text_embeddings.to(dtype), dim=-1).T
    _, background = pooled(view_tokens.flatten(0, 1), component)
    positive = labels.reshape(-1)[:, None] == text_labels.reshape(-1)[None, :]
    return _mean_one(agreement - background @ original_background.to(dtype).T, positive, gamma)


@torch.no_grad()
def softmax_weights(view_tokens: Tensor, component: Tensor, *, gamma: float, over_all_processes: bool) -> Tensor:
    """GenView's weight of each sample's pair of views: B softmax(gamma q) (GenView, eq. 11-13).

    Args:
        view_tokens: [2, B, T, D] of the frozen encoder.
        component: [D], oriented.
        gamma: 1 as published.
        over_all_processes: normalise over all processes' samples; else over this process's, as published.

    Returns:
        [B], mean 1 over the samples it is normalised over.
    """
    first, second = (pooled(tokens, component) for tokens in view_tokens)
    score = gamma * ((first[0] * second[0]).sum(-1) - (first[1] * second[1]).sum(-1))
    everyone = gather_rows(score) if over_all_processes and world_size() > 1 else score
    weights = len(everyone) * everyone.softmax(dim=0)
    start = rank() * len(score) if everyone is not score else 0
    return weights[start : start + len(score)]
