"""Image embeddings for unCLIP: those of the foreground pass where they are the pipeline's own, else made here."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch.utils.data import Dataset

from genview import loading, parquet, process, progress, tables, usage
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.generation.pipelines import LoadedPipeline

AGREEMENT = 0.98
"""Least cosine between a kept embedding and the pipeline's own; half precision costs below 0.001."""

COMPARED = 4
"""Images that are encoded anew to see whether the kept embeddings are the pipeline's own."""

logger = logging.getLogger(__name__)


def digest(embedding: np.ndarray) -> str:
    """Digest of the bytes of an embedding, float32 [E]."""
    return hashlib.sha256(embedding.tobytes()).hexdigest()[:16]


def kept(path: str | Path, keys: pa.ChunkedArray, first: int = 0) -> dict[str, np.ndarray]:
    """The embeddings of neighbouring images in a table of the foreground pass, float32 [E] by key.

    Args:
        path: the table, of these images or of more.
        keys: of the images; those that the table lacks are left out.
        first: the row at which they should begin; if they do not lie there, all rows are looked through.
    """
    columns = ["key", "embedding"]
    rows = parquet.read_rows(path, tables.SCORES, first, first + len(keys), columns)
    if not rows["key"].combine_chunks().equals(keys.combine_chunks()):
        wanted = keys.combine_chunks()
        pieces = parquet.batches(path, tables.SCORES, columns)
        rows = pa.concat_tables(
            [rows.slice(0, 0), *(piece.filter(pc.is_in(piece["key"], value_set=wanted)) for piece in pieces)]
        )
    if not len(rows):
        return {}
    values = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return dict(zip(rows["key"].to_pylist(), values.reshape(len(rows), -1)))


def processed(loaded: LoadedPipeline, images: Sequence[Image.Image]) -> torch.Tensor:
    """What the pipeline's own processor makes of images for its image encoder, float32 [n, 3, S, S]."""
    return loaded.pipeline.feature_extractor(images=list(images), return_tensors="pt").pixel_values


@torch.inference_mode()
def encode(loaded: LoadedPipeline, pixels: torch.Tensor, batch_size: int) -> np.ndarray:
    """Embeddings by the pipeline's own image encoder of what is processed, float32 [n, E], in batches of one shape."""
    parts = []
    for part in pixels.split(batch_size):
        filled = torch.cat([part, part[-1:].expand(batch_size - len(part), -1, -1, -1)])
        encoded = loaded.pipeline.image_encoder(filled.to(loaded.device, loaded.dtype)).image_embeds
        parts.append(encoded[: len(part)].float().cpu().numpy())
    return np.concatenate(parts)


def agree(loaded: LoadedPipeline, images: Sequence[Image.Image], embeddings: np.ndarray) -> bool:
    """Whether embeddings [n, E'] are those that the pipeline's own encoder makes of the images, but for rounding."""
    if embeddings.shape[-1] != loaded.embedding_dim:
        logger.info("kept embeddings have %d values, the pipeline's %d", embeddings.shape[-1], loaded.embedding_dim)
        return False
    own = encode(loaded, processed(loaded, images), min(COMPARED, len(images)))
    cosines = (own * embeddings).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(embeddings, axis=1))
    scale = np.linalg.norm(embeddings, axis=1) / np.linalg.norm(own, axis=1)
    logger.info("kept against the pipeline's own embeddings: cosine at least %.5f", cosines.min())
    # A normalised embedding points the same way and is still not the one that the pipeline expects.
    return bool(cosines.min() > AGREEMENT and np.all(np.abs(scale - 1) < 1 - AGREEMENT))


@dataclass
class Embeddings:
    """The embeddings of a shard's images."""

    values: dict[str, np.ndarray] = field(default_factory=dict)
    """float32 [E] by key."""
    origin: str | None = None
    """``foreground``: made in the foreground pass; ``pipeline``: made by the pipeline's encoder; None: none needed."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a key has none."""

    def digest(self, key: str) -> str | None:
        """Digest of a key's embedding, if it has one."""
        return digest(self.values[key]) if key in self.values else None


class Scores(NamedTuple):
    """The table of the foreground pass that holds a shard, and the row at which the shard begins."""

    table: str | Path
    first: int


class _Originals(Dataset):
    """Originals as the pipeline's image encoder takes them: a key, and what is processed or why there is nothing."""

    def __init__(self, loaded: LoadedPipeline, references: Sequence[tuple], reader: Reader):
        self.loaded, self.references, self.reader = loaded, references, reader

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, row: int) -> tuple[str, torch.Tensor | str]:
        key, *reference = self.references[row]
        try:
            return key, processed(self.loaded, [self.reader.image(*reference)])[0]
        except GenviewError as error:
            return key, f"the original cannot be read: {error}"


def of_shard(
    loaded: LoadedPipeline, rows: pa.Table, scores: Scores | None, reader: Reader, batch_size: int, workers: int = 0
) -> Embeddings:
    """The embeddings that the pipeline needs: kept ones if they are its own, else made from the original images.

    Args:
        loaded: the pipeline.
        rows: rows of the manifest.
        scores: where the foreground pass's embeddings are; None: there are none.
        reader: reads the originals.
        batch_size: images that are encoded at once.
        workers: processes that decode; 0: decode between the batches.
    """
    if loaded.mode == "txt" or not len(rows):
        return Embeddings()
    references = list(zip(*(rows[name].to_pylist() for name in ("key", "path", "offset", "length"))))
    vectors = kept(scores.table, rows["key"], scores.first) if scores else {}
    if vectors and _are_own(loaded, vectors, references, reader):
        missing = [key for key, *_ in references if key not in vectors]
        return Embeddings(
            values={key: vectors[key] for key, *_ in references if key in vectors},
            origin="foreground",
            failed=dict.fromkeys(missing, "no embedding: the image is not in the table of the foreground pass"),
        )
    result = Embeddings(origin="pipeline")
    logger.info("the images are encoded by the pipeline's own image encoder")
    batches = loading.loader(
        _Originals(loaded, references, reader),
        batch_size,
        workers,
        collate_fn=list,
        worker_init_fn=process.ignore_warnings,
    )
    shown = progress.track(usage.reading(loading.read(batches)), "encode originals", total=len(batches), unit="batch")
    for batch in shown:
        images = {key: image for key, image in batch if isinstance(image, torch.Tensor)}
        result.failed |= {key: why for key, why in batch if isinstance(why, str)}
        if images:
            result.values.update(zip(images, encode(loaded, torch.stack(list(images.values())), batch_size)))
    return result


def _are_own(
    loaded: LoadedPipeline, vectors: dict[str, np.ndarray], references: Sequence[tuple], reader: Reader
) -> bool:
    """Whether kept embeddings are the pipeline's own, judged by the first originals that can be read."""
    keys, images = [], []
    for key, *reference in references:
        if len(keys) == COMPARED:
            break
        if key in vectors:
            try:
                images.append(reader.image(*reference))
                keys.append(key)
            except GenviewError:  # looked at where it matters: where an image has to be encoded
                continue
    return bool(keys) and agree(loaded, images, np.stack([vectors[key] for key in keys]))
