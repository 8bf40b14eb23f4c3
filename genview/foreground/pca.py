"""The principal direction of patch tokens: exact streaming PCA, orientation from the data, threshold (GenView, eq. 7).

Covariance is accumulated in float64 in one pass over the tokens, whatever their number; the projection of a token is
*raw* (``token @ component``, not centred), and the threshold lives on that scale. The sign of an eigenvector is
arbitrary: what is foreground is decided from the data, where border tokens are taken for background.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from genview import atomic
from genview.errors import GenviewError

BLOCK = 8192
"""Tokens per matrix product: fixed, so that the sums do not depend on how the tokens were batched."""

WEAK_MARGIN = 0.3
"""Orientation is called weak below this effect size (difference of means over the standard deviation)."""

WEAK_AGREEMENT = 0.7
"""Nor is it trusted if fewer of the images, each for itself, speak for the same side."""


@dataclass(frozen=True)
class PCA:
    """A direction in token space, and what is known of it.

    Attributes:
        mean: mean token [D].
        component: first principal component [D], unit norm; oriented so that larger is foreground once ``oriented``.
        explained_variance_ratio: share of the tokens' variance along ``component``.
        tokens: number of tokens it was fitted on.
        threshold: on the raw projection on ``component``; None before it is chosen.
        sign: +1 or -1: stored scores times ``sign`` are projections on ``component``.
        details: evidence, encoder, counts; JSON values.
    """

    mean: np.ndarray
    component: np.ndarray
    explained_variance_ratio: float
    tokens: int = 0
    threshold: float | None = None
    sign: int = 1
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Orientation:
    """Evidence on which side of the projection is foreground."""

    sign: int
    """+1 if larger projections are foreground, -1 if smaller ones are."""
    border_mean: float
    centre_mean: float
    margin: float
    """(centre - border) / standard deviation of the scores: an effect size, in absolute value."""
    images_agreeing: float
    """Share of the images whose own centre and border agree with the sign."""
    weak: bool


def _blocks(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The tokens of all batches in float64 blocks [BLOCK, D], the last one shorter."""
    pending: list[np.ndarray] = []
    waiting = 0
    for number, batch in enumerate(batches):
        rows = np.asarray(batch)
        rows = rows.reshape(-1, rows.shape[-1])
        if not np.isfinite(rows).all():
            raise GenviewError(f"tokens of batch {number} hold NaN or infinity; use float32 instead of half precision")
        while len(rows):
            taken = rows[: BLOCK - waiting]
            pending.append(taken)
            waiting += len(taken)
            rows = rows[len(taken) :]
            if waiting == BLOCK:
                yield np.concatenate(pending).astype(np.float64)
                pending, waiting = [], 0
    if pending:
        yield np.concatenate(pending).astype(np.float64)


def moments(batches: Iterable[np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of tokens, mean [D] and covariance [D, D] (divisor n), float64; memory does not grow with the tokens.

    The sums are taken about the first block's mean, so that a large common offset costs no precision.

    Raises:
        GenviewError: no tokens, or tokens with NaN or infinity.
    """
    count, shift, first, second = 0, None, None, None
    for block in _blocks(batches):
        if shift is None:
            shift = block.mean(axis=0)
            first, second = np.zeros_like(shift), np.zeros((len(shift), len(shift)))
        centred = block - shift
        count += len(block)
        first += centred.sum(axis=0)
        second += centred.T @ centred
    if shift is None:
        raise GenviewError("PCA needs tokens: the sample of images is empty")
    offset = first / count
    return count, shift + offset, second / count - np.outer(offset, offset)


def fit(batches: Iterable[np.ndarray], component: np.ndarray | None = None) -> PCA:
    """Exact PCA, first component, of tokens that arrive in batches [n, T, D] or [n, D] of any float type.

    The sign is fixed by convention (the entry of largest magnitude is positive) until the data decide it.

    Args:
        batches: the tokens; read once.
        component: a given direction [D] instead of the first eigenvector; its share of the variance is measured.

    Raises:
        GenviewError: no tokens, tokens with NaN, or a given direction of another size.
    """
    count, mean, covariance = moments(batches)
    if component is None:
        component = np.linalg.eigh(covariance)[1][:, -1]
        component = component * np.sign(component[np.argmax(np.abs(component))])
    elif component.shape != mean.shape:
        raise GenviewError(f"the given component has {component.size} entries, the encoder's tokens {mean.size}")
    variance = float(np.trace(covariance))
    share = float(component @ covariance @ component) / variance if variance > 0 else 0.0
    return PCA(mean, component, share, count)


def threshold(scores: np.ndarray, foreground_share: float = 0.4) -> float:
    """The exact quantile of projections [...] that leaves ``foreground_share`` of them above it (float64).

    Raises:
        GenviewError: no scores, or scores with NaN or infinity.
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all():
        raise GenviewError("the threshold needs scores, all finite")
    return float(np.quantile(values, 1 - foreground_share))


def border(grid: tuple[int, int]) -> np.ndarray:
    """Mask of the outermost ring of a grid of tokens, bool [rows, columns]."""
    mask = np.ones(grid, dtype=bool)
    mask[1:-1, 1:-1] = False
    return mask


def centre(grid: tuple[int, int]) -> np.ndarray:
    """Mask of the middle half of the rows and columns, bool [rows, columns]; apart from the border."""
    rows, columns = (max(1, side // 4) for side in grid)
    mask = np.zeros(grid, dtype=bool)
    mask[rows : grid[0] - rows, columns : grid[1] - columns] = True
    return mask


def orient(scores: np.ndarray, grid: tuple[int, int]) -> Orientation:
    """Decide which side is foreground: objects sit in the middle of pictures more than at their border.

    Args:
        scores: projections [n, T], row-major over the grid.
        grid: rows and columns of the tokens, rows * columns = T.

    Raises:
        GenviewError: the grid has no inside (fewer than 3 x 3 tokens); force the polarity then.
    """
    if min(grid) < 3:
        raise GenviewError(
            f"a grid of {grid[0]} x {grid[1]} tokens has no border to orient by; "
            "set pca.polarity to as_given or flipped"
        )
    maps = np.asarray(scores, dtype=np.float64)
    inside, outside = maps[:, centre(grid).ravel()].mean(axis=1), maps[:, border(grid).ravel()].mean(axis=1)
    difference = float(inside.mean() - outside.mean())
    sign = 1 if difference >= 0 else -1
    spread = float(maps.std())
    margin = abs(difference) / spread if spread > 0 else 0.0
    agreeing = float(np.mean(np.sign(inside - outside) == sign))
    weak = margin < WEAK_MARGIN or agreeing < WEAK_AGREEMENT
    return Orientation(sign, float(outside.mean()), float(inside.mean()), margin, agreeing, weak)


def write_tensors(tensors: dict[str, np.ndarray], path: str | Path, details: dict[str, Any] | None = None) -> None:
    """Write arrays [...] as safetensors, complete or not at all; ``details``, JSON values, as metadata under one key.

    safetensors takes an array's memory as it lies, so that a transposed view would be saved scrambled; and it writes
    several metadata keys in any order, so that equal files would differ in their bytes.
    """
    metadata = None if details is None else {"genview": json.dumps(details, sort_keys=True)}
    ordered = {name: np.asarray(values, order="C") for name, values in tensors.items()}
    atomic.write_bytes(path, to_bytes(ordered, metadata))


def save(pca: PCA, path: str | Path) -> None:
    """Write a PCA: tensors ``mean``, ``component`` (float32), and scalars in float64; details as metadata."""
    tensors = {
        "mean": pca.mean.astype(np.float32),
        "component": pca.component.astype(np.float32),
        "explained_variance_ratio": np.array(pca.explained_variance_ratio, np.float64),
        "tokens": np.array(pca.tokens, np.int64),
        "sign": np.array(pca.sign, np.int64),
    }
    if pca.threshold is not None:
        tensors["threshold"] = np.array(pca.threshold, np.float64)
    write_tensors(tensors, path, pca.details)


def load(path: str | Path) -> PCA:
    """Read a PCA that ``save`` wrote; vectors are float32.

    Raises:
        GenviewError: the file is missing or is not a PCA.
    """
    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            details = json.loads((file.metadata() or {}).get("genview", "{}"))
    except FileNotFoundError as error:
        raise GenviewError(f"{path}: no such file") from error
    except Exception as error:  # safetensors raises its own kinds of errors for damaged files
        raise GenviewError(f"{path}: not a safetensors file: {error}") from error
    if "component" not in tensors or "mean" not in tensors:
        raise GenviewError(f"{path}: holds {sorted(tensors)}, but a PCA has at least mean and component")
    given = tensors.get("threshold")
    return PCA(
        tensors["mean"],
        tensors["component"],
        float(tensors.get("explained_variance_ratio", 0.0)),
        int(tensors.get("tokens", 0)),
        None if given is None else float(given),
        int(tensors.get("sign", 1)),
        details,
    )


def read_vector(path: str | Path) -> np.ndarray:
    """A published component as float64 [D], unit norm: ``.npy`` ([D] or [D, 1]) or ``.safetensors`` (``component``).

    Raises:
        GenviewError: the file is missing, of another kind, or not one vector of finite numbers.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with safe_open(path, "numpy") as file:
                values = file.get_tensor("component")
    except Exception as error:  # numpy and safetensors each raise several kinds
        raise GenviewError(f"{path}: cannot be read as a component (.npy or .safetensors): {error}") from error
    if values.size != max(values.shape, default=0) or values.size < 2 or not np.isfinite(values).all():
        raise GenviewError(f"{path}: a component is one vector of finite numbers; found shape {values.shape}")
    vector = values.astype(np.float64).ravel()
    norm = np.linalg.norm(vector)
    if norm == 0:
        raise GenviewError(f"{path}: the component is all zeros")
    return vector / norm
