"""The principal component of the sample's tokens, and the sample's projections on it.

This is all that the full pass over the images needs. Orientation and threshold come after it
(``genview.foreground.orientation``), so that changing them encodes nothing again.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from genview import provenance
from genview.errors import GenviewError
from genview.foreground import pca

logger = logging.getLogger("genview")

CHUNK = 64
"""Images of which the tokens are in memory at once."""


def read_tokens(paths: Sequence[str | Path]) -> Iterator[np.ndarray]:
    """Tokens of the sample in batches [n, T, D], fp16, straight from disk."""
    for path in paths:
        array = np.load(path, mmap_mode="r", allow_pickle=False) if Path(path).stat().st_size else None
        for start in range(0, 0 if array is None else len(array), CHUNK):
            yield np.asarray(array[start : start + CHUNK])


def project(tokens: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Raw projection of tokens [n, T, D] on a component [D]: float32 [n, T]."""
    return np.asarray(tokens, dtype=np.float32) @ np.asarray(component, dtype=np.float32)


def run(
    tokens: Sequence[str | Path],
    images: str | Path,
    *,
    vector: str | None,
    component: str | Path,
    sample_scores: str | Path,
) -> None:
    """Fit the component (or take a published one) and project the sample on it.

    Args:
        tokens: the sample's tokens, ``.npy`` files in order.
        images: the safetensors beside them, which tells encoder and grid.
        vector: a published component instead of the fitted one.
        component: written: PCA without threshold, sign by convention.
        sample_scores: written: safetensors, ``scores`` float32 [n, T].

    Raises:
        GenviewError: no tokens, tokens that are not finite, or a published component of another size.
    """
    with safe_open(images, "numpy") as file:
        stamp = json.loads(file.metadata()["genview"])
    given = pca.read_vector(vector) if vector else None
    fitted = pca.fit(read_tokens(tokens), given)
    if fitted.explained_variance_ratio == 0:
        raise GenviewError("all tokens of the sample are equal; is the encoder right, are the images?")
    scores = np.concatenate([project(batch, fitted.component) for batch in read_tokens(tokens)])
    details = {
        "encoder": stamp["encoder"],
        "encoder_digest": stamp["digest"],
        "grid": stamp["grid"],
        "images": len(scores),
        "vector": {"name": Path(vector).name, "sha256": provenance.file_sha256(vector)} if vector else None,
    }
    pca.save(
        pca.PCA(fitted.mean, fitted.component, fitted.explained_variance_ratio, fitted.tokens, details=details),
        component,
    )
    pca.write_tensors({"scores": scores}, sample_scores)
    logger.info(
        "%d tokens of %d images; the component explains %.1f %% of their variance",
        fitted.tokens,
        len(scores),
        100 * fitted.explained_variance_ratio,
    )
