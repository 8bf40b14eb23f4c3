"""MMVP-VLM: pairs of images that differ in one visual pattern, and two statements that tell them apart.

A pair counts only if both statements choose the right one of its two images (Tong et al., arXiv 2401.06209). Nine
patterns of 15 pairs; one pair is .74 points of the whole, and independent guessing gives 25 %.
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

PATTERNS = (
    "Orientation and Direction",
    "Presence of Specific Features",
    "State and Condition",
    "Quantity and Count",
    "Positional and Relational Context",
    "Color and Appearance",
    "Structural Characteristics",
    "Texts",
    "Viewpoint and Perspective",
)
PAIRS_PER_PATTERN = 15
PAIRS = len(PATTERNS) * PAIRS_PER_PATTERN


def score(similarities: Array) -> Array:
    """Which pairs are right: statement 1 is nearer to image 1, and statement 2 is not.

    The published scorer asks whether a softmax over the two images gives image 1 more than one half, so a tie goes to
    image 2; scale and bias of the logits play no part.

    Args:
        similarities: [P, 2, 2], pair, image, statement; NumPy or torch.

    Returns:
        bool [P], of the same library.
    """
    first_chosen = similarities[:, 0, :] > similarities[:, 1, :]
    return first_chosen[:, 0] & ~first_chosen[:, 1]


def pattern_scores(correct: np.ndarray | Tensor) -> tuple[np.ndarray, float]:
    """Percentage of right pairs for each of the nine patterns, float64 [9], and their mean.

    Args:
        correct: bool [135], in the order of the data set: 15 pairs of each pattern.

    Raises:
        ValueError: not 135 pairs.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.shape != (PAIRS,):
        raise ValueError(f"{correct.shape} outcomes; MMVP-VLM has {PAIRS} pairs")
    shares = correct.reshape(len(PATTERNS), PAIRS_PER_PATTERN).mean(axis=1) * 100
    return shares, float(shares.mean())
