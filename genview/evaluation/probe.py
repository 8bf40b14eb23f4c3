"""Stage ``probe``: linear probe and k-NN on frozen features, one JSON per run and dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genview import atomic, neighbours, parquet, placement, tables
from genview.config.evaluation import Probe
from genview.errors import GenviewError
from genview.evaluation import accuracy, linear, outcomes, store
from genview.evaluation.store import Features


def overlap(features: Features) -> int:
    """Number of test images that are training or validation images too, pixel by pixel."""
    seen = np.concatenate([part.digests for name, part in features.parts.items() if name != "test"])
    return int(np.isin(features.parts["test"].digests, seen).sum())


def _named(features: Features) -> str:
    """The first of the copies, in words."""
    pairs = features.details.get("copies") or []
    return (
        f" ({'; '.join(f'{one} is {other}' for one, other in pairs[:5])}{'; ...' if len(pairs) > 5 else ''})"
        if pairs
        else ""
    )


def check_overlap(features: Features, allowed: float) -> int:
    """Refuse a dataset whose test images were trained on.

    Raises:
        GenviewError: a larger share than allowed, and than the dataset's official parts are known for.
    """
    count, total = overlap(features), len(features.parts["test"])
    limit = max(allowed, features.details.get("known_overlap", 0.0))
    if count > limit * total:
        raise GenviewError(
            f"dataset {features.details['dataset']}: {count} of {total} test images are also training images, pixel by "
            f"pixel{_named(features)}; the accuracy would be of memory. Remove them from one part, or state a larger "
            "evaluation.probe.allowed_overlap"
        )
    return count


def knn_scores(features: Features, settings: Probe, device: torch.device) -> np.ndarray:
    """Votes [n, C] of k-NN on the training and validation parts; nothing is chosen, so the test part is read once."""
    known = features.parts["train"]
    if "validation" in features.parts:
        known = linear.joined(known, features.parts["validation"])
    test = features.parts["test"]
    scores = neighbours.votes(
        torch.from_numpy(known.features).to(device),
        torch.from_numpy(known.labels).to(device),
        torch.from_numpy(test.features).to(device),
        len(features.details["classes"]),
        neighbours=settings.neighbours,
    )
    return scores.cpu().numpy()


def knn_rows(features: Features, settings: Probe, *, seed: int, device: torch.device) -> list[dict[str, Any]]:
    """Results of k-NN."""
    scores, labels = knn_scores(features, settings, device), features.parts["test"].labels
    rows = accuracy.results(scores, labels, bootstraps=settings.bootstrap, seed=seed)
    return [{**row, "metric": f"knn_{row['metric']}"} for row in rows if row["metric"] != "top5"]


def write_outcomes(
    features: Features,
    scores: np.ndarray,
    settings: Probe,
    path: str | Path,
    device: torch.device,
    stamp: dict[str, str],
) -> None:
    """Write what the probe (scores [n, classes]) and the neighbours say of each test image."""
    test = features.parts["test"]
    columns = {
        "key": [f"{digest:016x}" for digest in test.digests.tolist()],
        "label": test.labels,
        "prediction": outcomes.predicted(scores, test.labels),
        "neighbours": outcomes.predicted(knn_scores(features, settings, device), test.labels),
    }
    parquet.write(columns, tables.OUTCOMES, path, **stamp)


def report(
    features: Features, settings: Probe, outcome: linear.Outcome, *, overlapping: int, seed: int, device: torch.device
) -> dict[str, Any]:
    """The result as plain values."""
    details = features.details
    test = features.parts["test"]
    validation_rule = linear.held_out(features, settings.validation_share, seed)[2]
    rows = accuracy.results(outcome.scores, test.labels, bootstraps=settings.bootstrap, seed=seed)
    return {
        "dataset": details["dataset"],
        "classes": len(details["classes"]),
        "metric": details["metric"],
        "protocol": settings.protocol,
        "selection": settings.selection,
        "results": rows + knn_rows(features, settings, seed=seed, device=device),
        "interval": f"95 %, percentiles of {settings.bootstrap} resamples of the test images",
        "grid": outcome.grid,
        "choice": outcome.choice,
        "neighbours": settings.neighbours,
        "split": outcome.split,
        "split_rule": details["split_rule"],
        "validation_rule": validation_rule,
        "overlap": overlapping,
        "copies": details.get("copies") or [],
        "layer": details["layer"],
        "feature_dimensions": int(test.features.shape[1]),
        "model_digest": details["model_digest"],
        "data_digest": details["data_digest"],
        "seed": seed,
    }


def cached(features: Features, settings: Probe, *, seed: int, device: torch.device) -> dict[str, Any]:
    """The whole result of the cached protocol.

    Raises:
        GenviewError: the test part overlaps the training part, or nothing can be held out.
    """
    overlapping = check_overlap(features, settings.allowed_overlap)
    outcome = linear.fit(features, settings, seed=seed, device=device)
    return report(features, settings, outcome, overlapping=overlapping, seed=seed, device=device)


def run(
    settings: Probe,
    *,
    features: str | Path,
    seed: int,
    output: str | Path,
    images: str | Path | None = None,
    stamp: dict[str, str],
) -> None:
    """Probe features with the cached protocol and write the result.

    Args:
        images: where the outcome of each test image goes, if anywhere.

    Raises:
        GenviewError: the features are missing, or the dataset's parts overlap.
    """
    device, encoded = placement.default(), store.load(features)
    overlapping = check_overlap(encoded, settings.allowed_overlap)
    outcome = linear.fit(encoded, settings, seed=seed, device=device)
    result = report(encoded, settings, outcome, overlapping=overlapping, seed=seed, device=device)
    if images:
        write_outcomes(encoded, outcome.scores, settings, images, device, stamp)
    atomic.write_json(output, {**result, "provenance": stamp})
