"""TokenCut: an image's patch tokens cut in two by a normalised cut (Wang et al., arXiv 2202.11539).

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
