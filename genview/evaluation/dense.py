"""Stages ``saliency`` and ``video``: what patch tokens know of objects without any training, one JSON per dataset.

An image is scaled to the tower's own square input, masks are compared at the image's size. A tower whose tokens form
no grid of at least 2 x 2 has no result, and the file says so: no training may be lost over it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from genview import atomic, placement
from genview.config.dense import Saliency, Video
from genview.encoders import towers
from genview.evaluation import accuracy, frozen, label_propagation, saliency
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.label_propagation import Propagation
from genview.evaluation.masked_images import Masked
from genview.foreground.token_cut import enlarged, token_cut
from genview.progress import track


class Tokens:
    """From an RGB image to its patch tokens."""

    def __init__(self, encoder: FrozenEncoder):
        self.encoder, size = encoder, (encoder.image_size,) * 2
        self.tower = towers.of(encoder.tower.visual)
        self.prepare = v2.Compose(
            [
                v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(encoder.mean, encoder.std),
            ]
        )

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """Tokens [T, D], float32, and their grid (rows, columns)."""
        encoder = self.encoder
        with torch.autocast(encoder.device.type, encoder.autocast, enabled=encoder.autocast is not None):
            seen = self.tower.see(self.prepare(image)[None].to(encoder.device), ("tokens",))
        return seen.tokens[0].float(), seen.grid


def interval(measured: Callable[[np.ndarray], float], count: int, resamples: int, seed: int) -> dict[str, float | None]:
    """Percentile interval of a figure of rows, which takes their numbers [n], over resamples of ``count`` rows."""
    if not resamples:
        return {"low": None, "high": None}
    random = np.random.default_rng(seed)
    values = [measured(random.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def _row(metric: str, measured: Callable[[np.ndarray], float], count: int, resamples: int, seed: int) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": measured(np.arange(count)),
        **interval(measured, count, resamples, seed),
        "count": count,
    }


def salient(tokens: Tokens, found: list[Masked], settings: Saliency, seed: int) -> list[dict[str, Any]]:
    """Rows of maxF (of binary masks, as published without a solver), IoU and accuracy."""
    measures, shares = [], []
    for pair in track(found, "saliency", total=len(found), unit="image"):
        image, truth = pair.open()
        values, grid = tokens(image)
        cut = token_cut(values.cpu().numpy(), grid, similarity=settings.similarity)
        mask = enlarged(cut.object, image.height, image.width)
        known = truth > truth.max() / 2 if truth.max() else truth.astype(bool)
        both = np.logical_and(mask, known).sum()
        measures.append(saliency.compare(mask, known))
        shares.append((both / max(mask.sum(), 1), both / max(known.sum(), 1)))
    columns = np.array([[each.iou, each.accuracy] for each in measures])
    table = np.array(shares)

    def max_f(rows: np.ndarray) -> float:
        precision, recall = table[rows].mean(axis=0)
        below = saliency.F_BETA_SQUARED * precision + recall
        return float((1 + saliency.F_BETA_SQUARED) * precision * recall / below) if below else 0.0

    common = (len(found), settings.bootstrap, seed)
    return [
        _row("iou", lambda rows: float(columns[rows, 0].mean()), *common),
        _row("max_f", max_f, *common),
        _row("accuracy", lambda rows: float(columns[rows, 1].mean()), *common),
    ]


def propagated(
    tokens: Tokens, found: dict[str, list[Masked]], settings: Video, seed: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of J&F, J and F over sequences, and J&F of each."""
    protocol = Propagation(settings.frames, settings.radius, settings.neighbours, settings.temperature)
    scores = {}
    for name, frames in track(found.items(), "video", total=len(found), unit="sequence"):
        values, truths, grid = [], [], (1, 1)
        for frame in frames:
            image, truth = frame.open()
            token, grid = tokens(image)
            values.append(token)
            truths.append(truth)
        masks = label_propagation.propagate(values, grid, truths[0], protocol)
        scores[name] = label_propagation.score(masks, truths)
    table = np.array([[score.mean, score.region, score.contour] for score in scores.values()])

    def mean(column: int) -> Callable[[np.ndarray], float]:
        return lambda rows: float(table[rows, column].mean())

    rows = [
        _row(metric, mean(column), len(table), settings.bootstrap, seed)
        for column, metric in enumerate(("j_and_f", "region_j", "contour_f"))
    ]
    return rows, {name: score.mean for name, score in scores.items()}


def run(
    settings: Saliency | Video,
    found: list[Masked] | dict[str, list[Masked]],
    *,
    dataset: str,
    seed: int,
    model: str | Path,
    precision: str,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Measure one encoder on one dataset and write the result.

    Args:
        settings: the block of the configuration; it says which of the two is measured.
        found: images with masks (`masked_images.pairs`), or sequences of them (`masked_images.sequences`).
        dataset: its name.
        seed: of the resamples.
        model: of a run, or the settings of an encoder (`frozen.load`).
        precision: of the encoder.
        output: the result.
        stamp: of the stage.

    Raises:
        GenviewError: the model is missing, or a file of the dataset cannot be read.
    """
    layer = "embedding"  # any tower has one; the tokens are looked at beside it
    encoder = frozen.load(model, layer=layer, precision=precision, device=placement.default())
    tokens = Tokens(encoder)
    first = found[0] if isinstance(found, list) else next(iter(found.values()))[0]
    grid = tokens(first.open()[0])[1]
    result: dict[str, Any] = {"dataset": dataset, "results": [], "grid": list(grid), "model_digest": encoder.digest}
    if min(grid) < 2:
        result["note"] = f"the tower's tokens form a grid of {grid[0]} x {grid[1]}: nothing to cut or to follow"
    elif isinstance(settings, Saliency) and isinstance(found, list):
        result["metric"], result["results"] = "iou", salient(tokens, found, settings, seed)
    elif isinstance(settings, Video) and isinstance(found, dict):
        result["metric"] = "j_and_f"
        result["results"], result["sequences"] = propagated(tokens, found, settings, seed)
    atomic.write_json(output, {**result, "provenance": stamp})
