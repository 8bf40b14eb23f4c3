"""Unsupervised saliency by TokenCut: a normalised cut of an image's patch tokens (Wang et al., arXiv 2202.11539).

Published with the keys of DINO's last attention; here with any tower's patch tokens, so its figures are no yardstick to
the digit. T tokens on a grid of rows and columns, D their width.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, ndimage

SIMILARITY = 0.2
"""Cosine above which two tokens are joined (published)."""

WEAK = 1e-5
"""Weight of all other edges (published)."""

F_BETA_SQUARED = 0.3
"""Weight of the recall in the saliency literature's F measure."""


@dataclass(frozen=True)
class Cut:
    """The foreground of one image.

    Attributes:
        eigenvector: float64 [T]; larger is foreground.
        foreground: bool [T], the side of the cut with the seed.
        object: bool [rows, columns], the seed's connected part of it (4 neighbours).
        seed: position of the token that lies farthest from the cut.
    """

    eigenvector: np.ndarray
    foreground: np.ndarray
    object: np.ndarray
    seed: int


def token_cut(tokens: np.ndarray, grid: tuple[int, int], *, similarity: float = SIMILARITY) -> Cut:
    """Cut an image's tokens in two (TokenCut, section 3.1).

    The second smallest solution of (D - W) x = lambda D x, W = 1 where the cosine exceeds ``similarity`` and 1e-5
    elsewhere, is divided at its mean; the foreground is the side that holds the largest absolute value.

    Args:
        tokens: [T, D], row-major.
        grid: (rows, columns), T in all.
        similarity: cosine from which tokens are joined.

    Raises:
        ValueError: the grid does not fit, or there are fewer than two tokens.
    """
    count = len(tokens)
    if count != grid[0] * grid[1] or count < 2:
        raise ValueError(
            f"{count} tokens on a grid of {grid[0]} x {grid[1]}; at least two are needed, one for each place"
        )
    unit = np.asarray(tokens, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    weights = np.where(unit @ unit.T > similarity, 1.0, WEAK)
    scale = 1 / np.sqrt(weights.sum(axis=1))
    symmetric = np.eye(count) - scale[:, None] * weights * scale
    _, vectors = linalg.eigh(symmetric, subset_by_index=[1, 1])
    vector = scale * vectors[:, 0]
    seed = int(np.argmax(np.abs(vector)))
    if vector[seed] < vector.mean():
        vector = -vector
    foreground = vector > vector.mean()
    foreground[seed] = True  # of tokens that are all alike, one is taken
    parts, _ = ndimage.label(foreground.reshape(grid))
    return Cut(vector, foreground, parts == parts.flat[seed], seed)


def enlarged(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask [rows, columns] at an image's size, each pixel its nearest token's; bool [height, width]."""
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)[:, None], columns.astype(int)]


@dataclass(frozen=True)
class Measures:
    """Of one mask against the truth: shares in [0, 1].

    Attributes:
        f_measure: (1 + .3) precision recall / (.3 precision + recall).
        iou: intersection over union.
        accuracy: share of pixels that are right.
    """

    f_measure: float
    iou: float
    accuracy: float


def compare(mask: np.ndarray, truth: np.ndarray) -> Measures:
    """A binary mask against the true one, both bool [height, width]; where both are empty they agree."""
    both, either = np.logical_and(mask, truth).sum(), np.logical_or(mask, truth).sum()
    precision = both / mask.sum() if mask.any() else float(not truth.any())
    recall = both / truth.sum() if truth.any() else float(not mask.any())
    below = F_BETA_SQUARED * precision + recall
    return Measures(
        f_measure=float((1 + F_BETA_SQUARED) * precision * recall / below) if below else 0.0,
        iou=float(both / either) if either else 1.0,
        accuracy=float((mask == truth).mean()),
    )


def maximum_f(maps: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """Largest F over 255 thresholds of precision and recall averaged over images (the literature's maxF).

    Args:
        maps: each float [height, width] in [0, 1].
        truths: each bool [height, width].
    """
    precision, recall = np.zeros(255), np.zeros(255)
    for saliency, truth in zip(maps, truths):
        levels = np.clip(np.ceil(saliency * 255), 0, 255).astype(int)  # above thresholds 0 .. level - 1
        chosen = np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1][1:]
        right = np.bincount(levels[truth], minlength=256)[::-1].cumsum()[::-1][1:]
        precision += np.where(chosen > 0, right / np.maximum(chosen, 1), 0)
        recall += right / max(int(truth.sum()), 1)
    precision, recall = precision / len(maps), recall / len(maps)
    below = F_BETA_SQUARED * precision + recall
    return float(np.max(np.where(below > 0, (1 + F_BETA_SQUARED) * precision * recall / np.maximum(below, 1e-12), 0)))
