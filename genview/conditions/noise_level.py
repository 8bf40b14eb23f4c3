"""The noise level of each image: adaptive to its foreground ratio, constant, random, or given."""

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
from genview.foreground import noise

logger = logging.getLogger("genview")


def random_level(keys: Sequence[str], seed: int, levels: Sequence[int] = noise.LEVELS) -> np.ndarray:
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
        keys, levels = table["key"], noise.adaptive_level(table["ratio"].to_numpy(), config.levels, tokens=tokens)
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
