"""How well masks agree with the true ones: the measures of the saliency literature."""

from dataclasses import dataclass

import numpy as np

F_BETA_SQUARED = 0.3
"""Weight of the recall in the saliency literature's F measure."""


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
