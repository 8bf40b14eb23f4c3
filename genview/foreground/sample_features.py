"""Patch tokens of a seeded sample of images, in half precision: what the principal component is fitted on."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from genview import atomic, parquet, placement, progress, randomness, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.data.reader import Reader, data_root
from genview.encoders import loader, look
from genview.errors import GenviewError
from genview.foreground import pca

logger = logging.getLogger("genview")

SHOWN = 100
"""Images of the sample that are kept as the encoder saw them, for pictures of masks and maps."""

SHOWN_SIDE = 112
"""Side of those images in pixels, at most."""


def sample(keys: Iterable[str], count: int, seed: int) -> np.ndarray:
    """Row numbers of a sample without replacement, in the order of the rows; int64 [min(count, n)].

    The choice does not depend on the order of the rows, and a larger sample contains the smaller one.
    """
    purpose = "sample of the component"
    chosen = randomness.sample(enumerate(keys), count, purpose, seed, name=lambda pair: pair[1])
    return np.array(sorted(row for row, _ in chosen), dtype=np.int64)


def as_seen(pixels: torch.Tensor) -> np.ndarray:
    """Pixels uint8 [n, 3, S, S] as bytes [n, s, s, 3], s at most SHOWN_SIDE."""
    side = min(pixels.shape[-1], SHOWN_SIDE)
    shown = torch.nn.functional.interpolate(pixels / 255, (side, side), mode="bilinear", antialias=True)
    return (shown.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()


def run(
    config: Encoder,
    dataset: Dataset,
    *,
    count: int,
    seed: int,
    manifest: str | Path,
    tokens: Sequence[str | Path],
    images: str | Path,
    workers: int,
) -> None:
    """Encode a sample of the study's images.

    Args:
        config: the encoder.
        dataset: where the images are.
        count: images in the sample.
        seed: the study's seed.
        manifest: the study's manifest.
        tokens: ``.npy`` files that share the sample evenly, in order: fp16 [n, T, D] each.
        images: safetensors: ``rows`` [n] of the manifest, ``images`` uint8 [m, s, s, 3] as the encoder saw the first.
        workers: processes that decode images.

    Raises:
        GenviewError: the encoder or an image cannot be loaded, or the tokens do not fit half precision.
    """
    keys = parquet.batches(manifest, tables.MANIFEST, ["key"])
    rows = sample((key for piece in keys for key in piece["key"].to_pylist()), count, seed)
    chosen = parquet.take(manifest, tables.MANIFEST, rows, ["key", "path", "offset", "length"])
    encoder = look.load(config, placement.default())
    reader = Reader(data_root(dataset, manifest))
    shown: list[np.ndarray] = []
    with progress.bar("tokens of the sample", total=len(rows)) as bar:
        for part, path in zip(np.array_split(np.arange(len(rows)), len(tokens)), tokens, strict=True):
            with atomic.writing(path) as partial:
                shape = (len(part), encoder.num_tokens, encoder.token_dim)
                selected = chosen.take(pa.array(part))
                _write(partial, shape, _encode(selected, reader, encoder, config, workers, shown, bar))
    seen = np.concatenate(shown) if shown else np.zeros((0, 1, 1, 3), np.uint8)
    details = {"grid": encoder.grid, "encoder": encoder.record, "digest": encoder.digest}
    pca.write_tensors({"rows": rows, "images": seen}, images, details)
    logger.info("%d images, %d tokens of %d dimensions each", len(rows), encoder.num_tokens, encoder.token_dim)


def _encode(rows, reader, encoder, config, workers, shown, bar):
    for images in loader.batches(rows, reader, encoder, config.batch_size, workers):
        wanted = SHOWN - sum(map(len, shown))
        if wanted > 0:
            shown.append(as_seen(images[:wanted]))
        tokens = loader.encode_padded(encoder, images, config.batch_size)[0].half().cpu().numpy()
        if not np.isfinite(tokens).all():
            raise GenviewError(f"tokens of {config.model} are not finite in half precision")
        bar.update(len(tokens))
        yield tokens


def _write(path: Path, shape: tuple[int, int, int], batches) -> None:
    """An array on disk that never is in memory as a whole; a file object keeps numpy from adding a suffix."""
    with open(path, "wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(np.ascontiguousarray(batch, dtype="<f2").tobytes())
