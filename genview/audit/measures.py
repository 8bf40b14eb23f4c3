"""Measures of generated views: likeness to the original, diversity among samples, shares with their intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NORMAL_95 = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., E] divided by their length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def likeness(originals: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Mean cosine of each original [n, E] with its samples [n, S, E]; [n] (GenView, Table 10)."""
    return np.einsum("ne,nse->ns", unit(originals), unit(views)).mean(1).clip(-1, 1)


def likeness_by_chance(originals: np.ndarray, views: np.ndarray) -> np.ndarray:
    """The same with the samples of another image, the next one: what unrelated images reach; [n].

    Raises:
        ValueError: fewer than two images.
    """
    if len(originals) < 2:
        raise ValueError("chance needs two images")
    return likeness(originals, np.roll(views, 1, axis=0))


def pairwise_cosine(views: np.ndarray) -> np.ndarray:
    """Mean cosine between the samples of each image, [n, S, E] to [n]; 1: all alike.

    Raises:
        ValueError: fewer than two samples.
    """
    samples = views.shape[1]
    if samples < 2:
        raise ValueError("diversity needs two samples of an image")
    vectors = unit(views)
    total = np.einsum("nse,nte->n", vectors, vectors)
    return ((total - samples) / (samples * (samples - 1))).clip(-1, 1)


def pixel_deviation(pixels: np.ndarray) -> np.ndarray:
    """Standard deviation over the samples of each image, averaged over pixels; uint8 [n, S, H, W, 3] to [n] in [0, 1].

    Raises:
        ValueError: fewer than two samples.
    """
    if pixels.shape[1] < 2:
        raise ValueError("diversity needs two samples of an image")
    return np.stack([(image / 255.0).std(0, ddof=1).mean() for image in pixels])


def mean_row(metric: str, values: np.ndarray | Sequence[float], **group: Any) -> dict[str, Any]:
    """A result: the mean of ``values`` [n], its 95 % interval from the standard error over images, and n."""
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    error = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else None
    return {
        "metric": metric,
        "value": mean,
        "low": None if error is None else mean - NORMAL_95 * error,
        "high": None if error is None else min(1.0, mean + NORMAL_95 * error),
        "standard_error": error,
        "count": count,
        **group,
    }


def share_row(metric: str, kept: np.ndarray | Sequence[float], **group: Any) -> dict[str, Any]:
    """A result for a share, with Wilson's 95 % interval, which stays within 0 and 1 and has width at 0 and 1 too.

    ``kept`` [n] holds per image the share of its samples that kept something; images are the independent units.
    """
    kept = np.asarray(kept, np.float64)
    share, count = float(kept.mean()), len(kept)
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return {
        "metric": metric,
        "value": share,
        # The interval holds the share itself; at 0 and 1 rounding would put it a hair outside.
        "low": max(0.0, min(share, centre - half)),
        "high": min(1.0, max(share, centre + half)),
        "standard_error": math.sqrt(share * (1 - share) / count),
        "count": count,
        **group,
    }
