"""Image embeddings for unCLIP: those of the foreground pass where they are the pipeline's own, else made here."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genview import tables
from genview.generation.pipelines import LoadedPipeline

AGREEMENT = 0.98
"""Least cosine between a kept embedding and the pipeline's own; half precision costs below 0.001."""

COMPARED = 4
"""Images that are encoded anew to see whether the kept embeddings are the pipeline's own."""

logger = logging.getLogger(__name__)


def kept(path: str | Path) -> dict[str, np.ndarray]:
    """The embeddings of one shard of the foreground pass by key, float32 [E] each."""
    table = tables.read(path, tables.SCORES, ["key", "embedding"])
    if not len(table):
        return {}
    column = table["embedding"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return dict(zip(table["key"].to_pylist(), values))


@torch.inference_mode()
def encode(loaded: LoadedPipeline, images: Sequence[Image.Image], batch_size: int) -> np.ndarray:
    """Embeddings by the pipeline's own image encoder and processor, float32 [n, E], in batches of one fixed shape."""
    pipeline, parts = loaded.pipeline, []
    for start in range(0, len(images), batch_size):
        part = list(images[start : start + batch_size])
        filled = part + part[-1:] * (batch_size - len(part))
        pixels = pipeline.feature_extractor(images=filled, return_tensors="pt").pixel_values
        encoded = pipeline.image_encoder(pixels.to(loaded.device, loaded.dtype)).image_embeds
        parts.append(encoded[: len(part)].float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, loaded.embedding_dim), np.float32)


def agree(loaded: LoadedPipeline, images: Sequence[Image.Image], embeddings: np.ndarray) -> bool:
    """Whether embeddings [n, E'] are those that the pipeline's own encoder makes of the images, but for rounding."""
    if embeddings.shape[-1] != loaded.embedding_dim:
        logger.info("kept embeddings have %d values, the pipeline's %d", embeddings.shape[-1], loaded.embedding_dim)
        return False
    own = encode(loaded, images, min(COMPARED, len(images)))
    cosines = (own * embeddings).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(embeddings, axis=1))
    scale = np.linalg.norm(embeddings, axis=1) / np.linalg.norm(own, axis=1)
    logger.info("kept against the pipeline's own embeddings: cosine at least %.5f", cosines.min())
    # A normalised embedding points the same way and is still not the one that the pipeline expects.
    return bool(cosines.min() > AGREEMENT and np.all(np.abs(scale - 1) < 1 - AGREEMENT))
