"""Features of one encoder on one dataset, as an artifact; read without any model or image library."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genview import atomic
from genview.errors import GenviewError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class PartFeatures:
    """Features of one part."""

    features: np.ndarray
    """float32 [n, D]"""
    labels: np.ndarray
    """int64 [n]"""
    digests: np.ndarray
    """First eight bytes of the SHA-256 of each image's size and RGB pixels, uint64 [n]."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Features:
    """Features of all parts of a dataset, and what they were made from."""

    parts: dict[str, PartFeatures]
    details: dict[str, Any] = field(default_factory=dict)
    """dataset, classes, metric, split_rule, layer, model_digest, data_digest, known_overlap, the stage's stamp."""


def save(features: Features, path: str | Path) -> None:
    """Write features, complete or not at all; equal features give equal bytes."""
    tensors = {}
    for name, part in features.parts.items():
        tensors[f"{name}.features"] = np.ascontiguousarray(part.features, np.float32)
        tensors[f"{name}.labels"] = part.labels.astype(np.int64)
        tensors[f"{name}.digests"] = part.digests.astype(np.uint64)
    with atomic.writing(path) as partial:
        save_file(tensors, partial, metadata={"genview": json.dumps(features.details, sort_keys=True)})


def load(path: str | Path) -> Features:
    """Read features.

    Raises:
        GenviewError: missing, or no such file of ours.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            details = json.loads(file.metadata()["genview"])
            present = set(file.keys())
            parts = {
                name: PartFeatures(*(file.get_tensor(f"{name}.{what}") for what in ("features", "labels", "digests")))
                for name in PARTS
                if f"{name}.features" in present
            }
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise GenviewError(f"{path}: no features of ours ({error}); make them again") from error
    return Features(parts, details)
