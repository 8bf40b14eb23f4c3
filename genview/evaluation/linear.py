"""The cached linear probe: choose a penalty on held-out training data, refit on all of it, read the test part once."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genview.config.evaluation import Probe
from genview.errors import GenviewError
from genview.evaluation import accuracy, logistic
from genview.evaluation.splits import seeded_parts
from genview.evaluation.store import Features, PartFeatures

logger = logging.getLogger("genview")


@dataclass(frozen=True)
class Outcome:
    """What a probe found."""

    scores: np.ndarray
    """Class scores of the test images [n, C]."""
    grid: list[dict[str, Any]]
    """Each candidate with its accuracy on the part that decides."""
    choice: dict[str, Any]
    split: dict[str, int]
    """Sizes: train, validation (held out of the training data), test."""


def held_out(features: Features, share: float, seed: int) -> tuple[PartFeatures, PartFeatures, str]:
    """Training and validation parts: the official ones, or a seeded share of each class of the training part."""
    train = features.parts["train"]
    if "validation" in features.parts:
        return train, features.parts["validation"], "official validation part"
    first, second = seeded_parts(train.labels, seed=seed, second_share=share)
    if len(second) == 0:
        raise GenviewError(
            f"dataset {features.details.get('dataset')}: no class has two training images, none can be held out"
        )
    rule = f"{share:g} of each class of the training part, drawn with seed {seed}"
    return _rows(train, first), _rows(train, second), rule


def _rows(part: PartFeatures, rows: np.ndarray) -> PartFeatures:
    return PartFeatures(part.features[rows], part.labels[rows], part.digests[rows])


def joined(first: PartFeatures, second: PartFeatures) -> PartFeatures:
    """Two parts as one."""
    return PartFeatures(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.digests, second.digests]),
    )


class _Standardised:
    """Features with the mean and deviation of the part they are fitted on; constant ones become 0."""

    def __init__(self, features: np.ndarray, device: torch.device):
        self.device = device
        data = torch.from_numpy(features).to(device)
        self.mean = data.mean(0, dtype=torch.float64)
        deviation = (data - self.mean.float()).double().square().mean(0).sqrt()
        self.deviation = torch.where(deviation > 1e-6 * (1 + self.mean.abs()), deviation, torch.inf)

    def __call__(self, features: np.ndarray) -> Tensor:
        data = torch.from_numpy(features).to(self.device)
        return (data - self.mean.float()) / self.deviation.float()


def best(metric: str, scores: Tensor, labels: np.ndarray) -> list[float]:
    """The metric of each candidate, from scores [K, n, C]."""
    predictions = scores.argmax(2).cpu().numpy()
    return [accuracy.value(metric, prediction == labels, labels) for prediction in predictions]


def fit(features: Features, settings: Probe, *, seed: int, device: torch.device) -> Outcome:
    """Run the cached protocol.

    Raises:
        GenviewError: no class has enough training images for some to be held out.
    """
    classes, metric = len(features.details["classes"]), features.details["metric"]
    train, validation, _ = held_out(features, settings.validation_share, seed)
    test = features.parts["test"]
    decides = validation if settings.selection == "validation" else test
    everything = joined(train, validation)
    penalties = torch.tensor(sorted(settings.regularisation), dtype=torch.float64)

    first = train if settings.selection == "validation" else everything
    scale = _Standardised(first.features, device)
    labels = torch.from_numpy(first.labels).to(device)
    candidates = logistic.fit(scale(first.features), labels, penalties, classes, iterations=settings.iterations)
    measured = best(metric, logistic.logits(scale(decides.features), candidates.weights), decides.labels)
    # Of equally good candidates the most regularised.
    chosen = max(range(len(penalties)), key=lambda index: (measured[index], index))
    grid = [
        {
            "regularisation": float(penalty),
            f"{settings.selection}_{metric}": score,
            "iterations": int(steps),
            "converged": bool(done),
        }
        for penalty, score, steps, done in zip(penalties, measured, candidates.iterations, candidates.converged)
    ]
    inner = {0: 1, len(penalties) - 1: len(penalties) - 2}.get(chosen)
    at_edge = len(penalties) > 1 and inner is not None and measured[chosen] > measured[inner]
    if at_edge:
        logger.warning("the best penalty, %g, is at the grid's edge: widen probe.regularisation", penalties[chosen])

    weights = candidates.weights[chosen : chosen + 1]
    if settings.selection == "validation":
        # Only now the held-out part joins in; the chosen candidate's weights are a good start.
        scale = _Standardised(everything.features, device)
        labels = torch.from_numpy(everything.labels).to(device)
        penalty = penalties[chosen : chosen + 1]
        final = logistic.fit(
            scale(everything.features), labels, penalty, classes, iterations=settings.iterations, start=weights
        )
        weights = final.weights
    scores = logistic.logits(scale(test.features), weights)[0].cpu().numpy()
    choice = {"regularisation": float(penalties[chosen]), "at_edge": at_edge}
    return Outcome(scores, grid, choice, {"train": len(train), "validation": len(validation), "test": len(test)})
