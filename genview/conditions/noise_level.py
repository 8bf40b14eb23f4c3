"""The noise level of each image: adaptive to its foreground ratio, constant, random, or given."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import randomness, tables
from genview.config.foreground import NoiseLevel
from genview.data import manifest as manifests
from genview.data import published
from genview.foreground import noise

logger = logging.getLogger("genview")


def draw(keys: Sequence[str], levels: Sequence[int], seed: int) -> np.ndarray:
    """A level per key, uniform over the different ``levels``, drawn from (seed, key) alone: int64 [n].

    It is the only draw of levels: a study whose strategy is random and a view set with random levels get the same.
    """
    options = sorted(set(levels))
    return np.array([randomness.choice(options, "noise level", seed, key) for key in keys], np.int64)


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
            levels = draw(keys.to_pylist(), config.levels, seed)
    levels = pa.chunked_array([pa.array(levels, pa.int32())]) if isinstance(levels, np.ndarray) else levels
    tables.write(pa.table({"key": keys, "noise_level": levels}), tables.NOISE_LEVEL, noise_level, **stamp)
    found, counts = np.unique(levels.to_numpy(), return_counts=True)
    logger.info("noise levels: %s", ", ".join(f"{level}: {count}" for level, count in zip(found, counts)))
