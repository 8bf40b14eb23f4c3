"""From rubric scores to guidance scales: the more a caption constrains the picture, the lower the scale."""

from collections.abc import Sequence

import numpy as np

from genview.config.guidance import SCALES


def scale(score: np.ndarray | Sequence[int] | int, *, scales: Sequence[float] = SCALES) -> np.ndarray:
    """Guidance scale of each rubric score (GenView++: 8, 6, 4 and 2 for the scores 1 to 4).

    Args:
        score: [n] whole numbers 1..4.
        scales: the scales of the scores 1, 2, 3 and 4.

    Returns:
        [n] float64.

    Raises:
        ValueError: a score is not 1, 2, 3 or 4 (NaN included).
    """
    score = np.asarray(score)
    valid = np.isin(score, (1, 2, 3, 4))
    if not valid.all():
        raise ValueError(f"a guidance score is 1, 2, 3 or 4, not {score[~valid].ravel()[0]!s}")
    return np.asarray(scales, np.float64)[score.astype(np.int64) - 1]
