"""Accuracies and their 95 % intervals."""

from statistics import NormalDist
from typing import Any

import numpy as np

LEVEL = 0.95


def hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the k largest scores, bool [n]; all true where there are at most k classes."""
    if k >= scores.shape[1]:
        return np.ones(len(labels), bool)
    own = scores[np.arange(len(labels)), labels]
    # Equal scores of other classes count against the true one: a constant classifier must not look right.
    better = (scores >= own[:, None]).sum(1) - 1
    return better < k


def mean_per_class(correct: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the share that is correct in each; ``correct`` bool [n], ``labels`` [n]."""
    total = np.bincount(labels)
    right = np.bincount(labels, weights=correct, minlength=len(total))
    return float((right[total > 0] / total[total > 0]).mean())


def value(metric: str, correct: np.ndarray, labels: np.ndarray) -> float:
    """``mean_per_class``, or the plain share that is correct; ``correct`` bool [n], ``labels`` [n]."""
    return mean_per_class(correct, labels) if metric == "mean_per_class" else float(correct.mean())


def bootstrap(
    metric: str, correct: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Percentile interval of a metric over resamples of n test images (Efron 1979); nulls if there are none.

    ``correct`` is bool [n], ``labels`` are integers [n].

    Where all images are right, or none, resamples do not vary: there the interval is Wilson's.
    """
    if resamples == 0:
        return None, None
    if correct.all() or not correct.any():
        return wilson(float(correct.mean()), len(correct))
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        rows = random.integers(len(labels), size=len(labels))
        values[index] = value(metric, correct[rows], labels[rows])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Score interval of a share of ``count`` queries (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    # The interval holds the share itself; at 0 and 1 rounding would put it a hair outside.
    return float(max(0.0, min(share, centre - half))), float(min(1.0, max(share, centre + half)))


def results(scores: np.ndarray, labels: np.ndarray, *, bootstraps: int, seed: int) -> list[dict[str, Any]]:
    """Rows of top-1, top-5 (from six classes on) and mean per class of scores [n, classes], each with its interval."""
    first = hits(scores, labels, 1)
    measured = [("top1", "top1", first), ("mean_per_class", "mean_per_class", first)]
    if scores.shape[1] > 5:
        measured.insert(1, ("top5", "top1", hits(scores, labels, 5)))
    rows = []
    for name, metric, correct in measured:
        low, high = bootstrap(metric, correct, labels, bootstraps, seed)
        rows.append(row(name, value(metric, correct, labels), low, high, len(labels)))
    return rows


def row(metric: str, measured: float, low: float | None, high: float | None, count: int) -> dict[str, Any]:
    """One measured number, as the report reads it."""
    return {"metric": metric, "value": measured, "low": low, "high": high, "count": count}
