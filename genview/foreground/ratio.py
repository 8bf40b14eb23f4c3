"""Foreground ratio: share of an image's tokens above one global threshold (GenView, eq. 7, on the raw projection)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import parquet, tables
from genview.data import published
from genview.errors import GenviewError
from genview.foreground import pca

logger = logging.getLogger("genview")


def foreground_ratio(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Share of tokens strictly above the threshold: scores [n, T] to float64 [n] in [0, 1].

    Raises:
        GenviewError: scores with NaN, or images without tokens.
    """
    values = np.asarray(scores)
    if values.ndim != 2 or not values.shape[1]:
        raise GenviewError(f"scores have the shape [images, tokens] with at least one token; got {values.shape}")
    if np.isnan(values).any():
        raise GenviewError("scores hold NaN")
    # In float64 on both sides: a threshold rounded to half precision would move whole tokens across it.
    above = np.count_nonzero(values.astype(np.float64) > threshold, axis=1)
    return above / values.shape[1]


def read_scores(path: str | Path) -> Iterator[tuple[pa.ChunkedArray, np.ndarray]]:
    """Keys [n] and scores fp16 [n, T] of one shard, some rows at a time.

    Raises:
        GenviewError: images differ in their number of tokens.
    """
    tokens = None
    for piece in parquet.batches(path, tables.SCORES, ["key", "scores"]):
        column = piece["scores"].combine_chunks()
        lengths = np.diff(column.offsets.to_numpy())
        tokens = lengths[0] if tokens is None else tokens
        if (lengths != tokens).any():
            raise GenviewError(f"{path}: images differ in their number of tokens")
        yield piece["key"], column.flatten().to_numpy().reshape(len(piece), tokens)


def run(
    scores: Sequence[str | Path],
    *,
    component: str | Path,
    ratio: str | Path,
    stamp: dict[str, str],
) -> None:
    """Foreground ratio of all images from the shards of scores.

    Args:
        scores: tables.SCORES, one per shard.
        component: ``pca.safetensors``: sign and threshold.
        ratio: written: tables.FOREGROUND_RATIO, with the number of tokens in its metadata.
        stamp: provenance.

    Raises:
        GenviewError: the shards were not made alike, or with another encoder than the component.
    """
    direction = pca.load(component)
    parquet.require_alike(scores)
    made_with = {path: parquet.metadata(path)["encoder"] for path in scores}
    for path, encoder in made_with.items():
        if encoder != direction.details["encoder_digest"]:
            raise GenviewError(f"{path}: made with another encoder than {component}; make both again")
    total = 0.0
    with parquet.writing(tables.FOREGROUND_RATIO, ratio, tokens=str(_tokens(scores)), **stamp) as writer:
        for path in scores:
            for keys, values in read_scores(path):
                # The stored scores are projections on the component before its orientation was known.
                ratios = foreground_ratio(direction.sign * values.astype(np.float32), direction.threshold)
                writer.write({"key": keys, "ratio": ratios.astype(np.float32)})
                total += ratios.sum()
    if writer.rows:
        logger.info("%d images, mean foreground ratio %.3f", writer.rows, total / writer.rows)


def _tokens(scores: Sequence[str | Path]) -> int:
    """Tokens of an image; 0 where there are no images."""
    for path in scores:
        table = parquet.read_rows(path, tables.SCORES, 0, 1, ["scores"])
        if len(table):
            return len(table["scores"][0])
    return 0


def run_given(given: str | Path, *, ratio: str | Path, stamp: dict[str, str], image_root: str | None) -> None:
    """Foreground ratios from a file in the published form (``fg_ratios.csv``) in place of the stage.

    Raises:
        GenviewError: a row is not as published, out of range, or doubled.
    """
    table = published.read_csv(given, "fg_ratios", image_root=image_root)
    columns = {"key": table["key"], "ratio": table["ratio"].cast(pa.float32())}
    parquet.write(pa.table(columns), tables.FOREGROUND_RATIO, ratio, tokens="0", **stamp)
