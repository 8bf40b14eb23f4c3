"""The full pass: each image is encoded once; of its tokens one number each is kept, and the image embedding.

512 bytes an image for 256 tokens, where the tokens themselves would be 655,360. Rows of one table are held in memory
until its table is written.
"""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from genview import kept, parquet, placement, progress, provenance, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.data import manifest as manifests
from genview.data.reader import Reader, data_root
from genview.encoders import loader, look
from genview.errors import GenviewError
from genview.foreground import pca
from genview.kept import Earlier

logger = logging.getLogger("genview")


def as_lists(values: np.ndarray) -> pa.ListArray:
    """An array [n, m] as a column of n lists of m numbers."""
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def run(
    config: Encoder,
    dataset: Dataset,
    *,
    manifest: str | Path,
    group: str,
    component: str | Path,
    scores: str | Path,
    workers: int,
    stamp: dict[str, str],
    earlier: Earlier | None = None,
) -> None:
    """Encode and project a group of shards.

    Args:
        config: the encoder.
        dataset: where the images are.
        manifest: the study's manifest.
        group: name such as ``0-of-2`` (`data.manifest.read_group`).
        component: the component to project on, before orientation.
        scores: written: tables.SCORES.
        workers: processes that decode images.
        stamp: provenance.
        earlier: tables made before, from which unchanged images' rows are taken over.

    Raises:
        GenviewError: an image cannot be read any more, the component belongs to another encoder, or a score is not
            finite.
    """
    rows = manifests.read_group(manifest, group, ["key", "path", "offset", "length", "sha256"])
    direction = pca.load(component)
    if not len(rows):
        empty = {"key": [], "scores": [], "embedding": []}
        parquet.write(empty, tables.SCORES, scores, encoder=direction.details["encoder_digest"], **stamp)
        if earlier:
            earlier.keep(manifest, [scores], [], "")
        return
    details = [stamp.get("parameters"), direction.details["encoder_digest"], provenance.file_sha256(component)]
    binding = provenance.digest(details)
    made_from = [provenance.digest(row) for row in zip(*(rows[name].to_pylist() for name in ("key", "sha256")))]
    taken, positions = tables.SCORES.empty_table(), []
    if earlier:
        taken, positions = earlier.table(made_from, binding, tables.SCORES)
        logger.info("%d of %d images are taken over", len(taken), len(rows))
    new = rows.take(np.setdiff1d(np.arange(len(rows)), np.asarray(positions, np.int64)))
    made = tables.SCORES.empty_table()
    if len(new):
        reader = Reader(data_root(dataset, manifest))
        made = _encoded(config, reader, group, new, direction, component, workers)
    table = kept.in_order(taken, positions, made)
    parquet.write(table, tables.SCORES, scores, encoder=direction.details["encoder_digest"], **stamp)
    if earlier:
        earlier.keep(manifest, [scores], made_from, binding)


def _encoded(
    config: Encoder,
    reader: Reader,
    group: str,
    rows: pa.Table,
    direction: pca.PCA,
    component: str | Path,
    workers: int,
) -> pa.Table:
    """Encode and project images: a table of ``tables.SCORES``."""
    encoder = look.load(config, placement.default())
    if encoder.digest != direction.details["encoder_digest"]:
        raise GenviewError(f"{component}: fitted with other weights than {config.model} has now; fit it again")
    vector = torch.from_numpy(direction.component).to(encoder.device)
    projected = np.empty((len(rows), encoder.num_tokens), np.float16)
    embeddings = np.empty((len(rows), encoder.embedding_dim), np.float32)
    done = 0
    with progress.bar(f"scores {group}", total=len(rows)) as bar:
        for images in loader.batches(rows, reader, encoder, config.batch_size, workers):
            tokens, embedding = loader.encode_padded(encoder, images, config.batch_size)
            end = done + len(images)
            projected[done:end] = (tokens @ vector).half().cpu().numpy()
            embeddings[done:end] = embedding.cpu().numpy()
            bar.update(len(images))
            done = end
    finite = np.isfinite(projected).all(axis=1) & np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        bad = [rows["key"][int(row)].as_py() for row in np.flatnonzero(~finite)[:10]]
        raise GenviewError(f"{config.model} gives NaN or infinity for {(~finite).sum()} images, such as {bad}")
    return pa.table({"key": rows["key"], "scores": as_lists(projected), "embedding": as_lists(embeddings)})
