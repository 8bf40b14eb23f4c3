"""From foreground ratio to noise level (GenView, eq. 8): more foreground, more noise on the image embedding.

The default is ``min(floor(5 r), 4) * 100``. It is computed in integers, from the number of foreground tokens, wherever
that is known. For a ratio that is only known as a number the published intervals hold, closed on the right in float64:
(0, .2] -> 0, (.2, .4] -> 100, and so on. Both agree on every ratio that is a number of tokens over their total and has
gone through float32, as ours and the published ones have: .2, .4, .6 and .8 all round up. They differ at the exact
decimal edges alone, which no published file of ratios contains.
"""

from collections.abc import Sequence

import numpy as np

from genview.errors import GenviewError

LEVELS = (0, 100, 200, 300, 400)


def _checked(ratio: np.ndarray) -> np.ndarray:
    values = np.asarray(ratio)
    bad = ~((values >= 0) & (values <= 1))  # NaN compares false
    if bad.any():
        row = int(np.flatnonzero(bad.ravel())[0])
        raise GenviewError(
            f"foreground ratios are numbers in [0, 1]; {int(bad.sum())} are not, the first is row {row}: "
            f"{values.ravel()[row]!r}"
        )
    return values


def adaptive_level(ratio: np.ndarray, levels: Sequence[int] = LEVELS, *, tokens: int | None = None) -> np.ndarray:
    """Noise level of each foreground ratio: [n] in [0, 1] to int64 [n].

    Args:
        ratio: foreground ratios.
        levels: the levels of the equal intervals of [0, 1], in order.
        tokens: T, where the ratios are counts over T: then the interval is found in integers.

    Raises:
        GenviewError: a ratio is NaN or outside [0, 1], or no multiple of 1 / tokens.
    """
    values, count = _checked(ratio), len(levels)
    if tokens:
        foreground = np.rint(values.astype(np.float64) * tokens).astype(np.int64)
        if not np.allclose(foreground / tokens, values, rtol=0, atol=1e-6):
            raise GenviewError(f"foreground ratios are not multiples of 1/{tokens}; was the number of tokens changed?")
        interval = np.minimum(count * foreground // tokens, count - 1)
    else:
        edges = np.arange(1, count) / count
        interval = np.searchsorted(edges, values.astype(np.float64), side="left")
    return np.asarray(levels, dtype=np.int64)[interval]
