"""The noise level of each image: adaptive to its foreground ratio, constant, random, or given."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import parquet, randomness, tables
from genview.config.foreground import NoiseLevel
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
    found: Counter[int] = Counter()
    with parquet.writing(tables.NOISE_LEVEL, noise_level, **stamp) as writer:
        for keys, levels in _levels(config, manifest, ratio, seed, image_root):
            writer.write({"key": keys, "noise_level": levels})
            found.update(dict(zip(*(part.tolist() for part in np.unique(levels, return_counts=True)))))
    logger.info("noise levels: %s", ", ".join(f"{level}: {found[level]}" for level in sorted(found)))


def _levels(
    config: NoiseLevel, manifest: str | Path, ratio: str | Path | None, seed: int, image_root: str | None
) -> Iterator[tuple[pa.ChunkedArray, np.ndarray]]:
    """Keys and their levels, some at a time."""
    if config.given:
        table = published.read_csv(config.given, "noise_level", image_root=image_root)
        yield table["key"], table["noise_level"].to_numpy()
    elif config.strategy == "adaptive":
        assert ratio is not None
        tokens = int(parquet.metadata(ratio).get("tokens", 0)) or None
        for piece in parquet.batches(ratio, tables.FOREGROUND_RATIO, ["key", "ratio"]):
            yield piece["key"], noise.adaptive_level(piece["ratio"].to_numpy(), config.levels, tokens=tokens)
    else:
        for piece in parquet.batches(manifest, tables.MANIFEST, ["key"]):
            if config.strategy == "constant":
                yield piece["key"], np.full(len(piece), config.constant)
            else:
                yield piece["key"], draw(piece["key"].to_pylist(), config.levels, seed)
