"""From foreground ratio to noise level (GenView, eq. 8): more foreground, more noise on the image embedding.

The default is ``min(floor(5 r), 4) * 100``. It is computed in integers, from the number of foreground tokens, wherever
that is known. For a ratio that is only known as a number the published intervals hold, closed on the right in float64:
(0, .2] -> 0, (.2, .4] -> 100, and so on. Both agree on every ratio that is a number of tokens over their total and has
gone through float32, as ours and the published ones have: .2, .4, .6 and .8 all round up. They differ at the exact
decimal edges alone, which no published file of ratios contains.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import tables
from genview.config.foreground import NoiseLevel
from genview.data import manifest as manifests
from genview.data import published
from genview.errors import GenviewError

logger = logging.getLogger("genview")

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
            raise GenviewError(f"foreground ratios are no multiples of 1/{tokens}; was the number of tokens changed?")
        interval = np.minimum(count * foreground // tokens, count - 1)
    else:
        edges = np.arange(1, count) / count
        interval = np.searchsorted(edges, values.astype(np.float64), side="left")
    return np.asarray(levels, dtype=np.int64)[interval]


def random_level(keys: Sequence[str], seed: int, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """A level per key, uniform over ``levels``, drawn from (seed, key) alone: int64 [n]."""
    lots = (hashlib.sha256(f"{seed}/noise_level/{key}".encode()).digest() for key in keys)
    chosen = np.fromiter((int.from_bytes(lot[:8], "big") % len(levels) for lot in lots), np.int64, len(keys))
    return np.asarray(levels, dtype=np.int64)[chosen]


def run(
    config: NoiseLevel,
    *,
    manifest: str | Path,
    ratio: str | Path | None,
    noise_level: str | Path,
    seed: int,
    stamp: dict[str, str],
    image_root: str | None = None,
) -> None:
    """Noise level of every image.

    Args:
        config: strategy and levels, or a given file.
        manifest: the study's manifest; its keys have levels under the constant and random strategies.
        ratio: tables.FOREGROUND_RATIO; needed by the adaptive strategy alone.
        noise_level: written: tables.NOISE_LEVEL.
        seed: the study's seed.
        stamp: provenance.
        image_root: folder of absolute paths in the given file.

    Raises:
        GenviewError: a ratio is NaN or out of range, or a row of the given file is not as published.
    """
    if config.given:
        table = published.read_csv(config.given, "noise_level", image_root=image_root)
        keys, levels = table["key"], table["noise_level"]
    elif config.strategy == "adaptive":
        table = tables.read(ratio, tables.FOREGROUND_RATIO)
        tokens = int(tables.metadata(ratio).get("tokens", 0)) or None
        keys, levels = table["key"], adaptive_level(table["ratio"].to_numpy(), config.levels, tokens=tokens)
    else:
        keys = manifests.read(manifest, columns=["key"])["key"]
        if config.strategy == "constant":
            levels = np.full(len(keys), config.constant)
        else:
            levels = random_level(keys.to_pylist(), seed, config.levels)
    levels = pa.chunked_array([pa.array(levels, pa.int32())]) if isinstance(levels, np.ndarray) else levels
    tables.write(pa.table({"key": keys, "noise_level": levels}), tables.NOISE_LEVEL, noise_level, **stamp)
    found, counts = np.unique(levels.to_numpy(), return_counts=True)
    logger.info("noise levels: %s", ", ".join(f"{level}: {count}" for level, count in zip(found, counts)))
