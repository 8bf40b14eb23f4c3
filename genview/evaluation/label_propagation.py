"""Video object segmentation without training: labels of the first frame travel along similar patch tokens.

DINO's protocol for DAVIS 2017 (Caron et al., arXiv 2104.14294, appendix): the first frame and the seven before are the
context, tokens at most 12 rows and columns apart are compared, the five most similar ones count, the temperature is .1.
Measures J and F are DAVIS's (Perazzi et al., CVPR 2016): overlap of regions, and of contours.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

CONTOUR_TOLERANCE = 0.008
"""How far apart contours may lie, as a share of the image's diagonal (DAVIS)."""


@dataclass(frozen=True)
class Propagation:
    """The published settings.

    Attributes:
        frames: context frames beside the first one.
        radius: largest distance of two tokens that are compared, in rows and in columns.
        neighbours: most similar tokens of the context that count.
        temperature: of the weights exp(cosine / temperature).
    """

    frames: int = 7
    radius: int = 12
    neighbours: int = 5
    temperature: float = 0.1


def neighbourhood(rows: int, columns: int, radius: int) -> Tensor:
    """Which tokens of the grid are compared with which, bool [T, T], T = rows * columns."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1)
    return (places[:, None] - places[None]).abs().amax(dim=2) <= radius


def step(tokens: Tensor, context: Tensor, labels: Tensor, near: Tensor, settings: Propagation) -> Tensor:
    """Labels of a frame from those of its context.

    Args:
        tokens: [T, D], of the frame.
        context: [n, T, D], of n frames with labels.
        labels: [n, T, K], shares of K objects, background first.
        near: bool [T, T], of `neighbourhood`.
        settings: of the protocol.

    Returns:
        [T, K], shares that sum to 1.
    """
    queries, keys = F.normalize(tokens, dim=1), F.normalize(context, dim=2)
    similar = torch.einsum("td,nsd->nst", queries, keys)
    similar = similar.masked_fill(~near.to(similar.device), float("-inf")).flatten(0, 1)
    best, places = similar.topk(min(settings.neighbours, len(similar)), dim=0)
    weights = torch.softmax(best / settings.temperature, dim=0)
    return torch.einsum("kt,ktc->tc", weights, labels.flatten(0, 1)[places])


def propagate(
    tokens: Sequence[Tensor], grid: tuple[int, int], first: np.ndarray, settings: Propagation | None = None
) -> list[np.ndarray]:
    """Masks of all frames from the first one's.

    Args:
        tokens: of each frame [T, D], row-major.
        grid: (rows, columns) of the tokens.
        first: int [height, width]: 0 is background, 1 .. K - 1 are objects.
        settings: of the protocol; None: the published ones.

    Returns:
        int [height, width] for each frame; the first is the one given.
    """
    settings = settings or Propagation()
    height, width = first.shape
    objects = int(first.max()) + 1
    exact = F.one_hot(torch.from_numpy(first.astype(np.int64)), objects).permute(2, 0, 1)[None].float()
    start = F.interpolate(exact, size=grid, mode="bilinear", antialias=True)[0].flatten(1).T.to(tokens[0].device)
    near = neighbourhood(*grid, settings.radius)
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.frames)
    masks = [first]
    for frame in tokens[1:]:
        context = [(tokens[0], start), *recent]
        labels = step(frame, torch.stack([t for t, _ in context]), torch.stack([s for _, s in context]), near, settings)
        recent.append((frame, labels))
        maps = labels.T.reshape(1, objects, *grid)
        maps = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)[0]
        masks.append(_stretched(maps).argmax(dim=0).cpu().numpy())
    return masks


def _stretched(maps: Tensor) -> Tensor:
    """Each object's map to the range 0 .. 1, so that small objects are not lost; empty maps stay empty."""
    flat = maps.flatten(1)
    low, high = flat.amin(dim=1)[:, None, None], flat.amax(dim=1)[:, None, None]
    return torch.where(high > low, (maps - low) / (high - low).clamp(min=1e-12), maps)


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J: intersection over union of two bool [height, width]; 1 where both are empty."""
    union = np.logical_or(mask, truth).sum()
    return float(np.logical_and(mask, truth).sum() / union) if union else 1.0


def contour(mask: np.ndarray) -> np.ndarray:
    """Pixels whose right, lower or diagonal neighbour lies on the other side, bool [height, width]."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != diagonal)


def contour_accuracy(mask: np.ndarray, truth: np.ndarray, tolerance: float = CONTOUR_TOLERANCE) -> float:
    """F: harmonic mean of the shares of each contour that lies near the other one.

    Args:
        mask, truth: bool [height, width].
        tolerance: in parts of the diagonal; rounded up to whole pixels.
    """
    radius = int(np.ceil(tolerance * np.hypot(*mask.shape)))
    reach = np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    found, true = contour(mask), contour(truth)
    if not found.any() and not true.any():
        return 1.0
    if not found.any() or not true.any():
        return 0.0
    precision = (found & ndimage.binary_dilation(true, reach)).sum() / found.sum()
    recall = (true & ndimage.binary_dilation(found, reach)).sum() / true.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@dataclass(frozen=True)
class Score:
    """Means over a sequence's objects and frames, without the first and the last frame (DAVIS 2017)."""

    region: float
    contour: float

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.region + self.contour) / 2


def score(masks: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Score:
    """J and F of a sequence of masks against the true ones, int [height, width] each.

    Raises:
        ValueError: fewer than three frames, or the first one holds no object.
    """
    objects = [int(number) for number in np.unique(truths[0]) if number != 0]
    if len(masks) != len(truths) or len(truths) < 3 or not objects:
        raise ValueError("a sequence has at least three frames, as many masks, and an object in its first frame")
    pairs = [(m == number, t == number) for m, t in zip(masks[1:-1], truths[1:-1]) for number in objects]
    return Score(
        region=float(np.mean([region_similarity(*pair) for pair in pairs])),
        contour=float(np.mean([contour_accuracy(*pair) for pair in pairs])),
    )
