"""Stage ``probe_features``: encode a dataset once with a frozen encoder; probes and k-NN only read the result."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from genview import loading, placement
from genview.config.evaluation import Features as Settings
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError
from genview.evaluation import frozen, store
from genview.evaluation.datasets import Request
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.splits import LabelledDataset, Part, check_labels
from genview.progress import track

SHOWN_COPIES = 20
"""Copies that are named; probes count them all."""


class _Items(Dataset):
    def __init__(self, part: Part, transform: Preprocess):
        self.part, self.transform = part, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.part.image(index)
        # Eight bytes as a signed integer: a batch of them collates to a tensor.
        digest = hashlib.sha256(np.uint32(image.size).tobytes() + image.tobytes()).digest()[:8]
        return self.transform.pixels(image), int.from_bytes(digest, "little", signed=True)


def encode(part: Part, encoder: FrozenEncoder, settings: Settings, description: str) -> store.PartFeatures:
    """Features, labels and pixel digests of one part, in its order."""
    features, digests = [], []
    batches = loading.loader(_Items(part, encoder.transform), settings.batch_size, settings.loaders)
    for images, marks in track(encoder.counted(batches), description, total=len(batches), unit="batch"):
        features.append(encoder.features(images).cpu())
        digests.append(marks.cpu())
    return store.PartFeatures(torch.cat(features).numpy(), part.labels, torch.cat(digests).numpy().view(np.uint64))


def copies(parts: dict[str, Part], encoded: dict[str, store.PartFeatures]) -> list[tuple[str, str]]:
    """The first test images that are training or validation images too, pixel by pixel, and those, by their names."""
    known: dict[int, tuple[str, int]] = {}
    for name in encoded.keys() - {"test"}:
        for row, digest in enumerate(encoded[name].digests.tolist()):
            known.setdefault(digest, (name, row))
    found = []
    for row, digest in enumerate(encoded["test"].digests.tolist()):
        if digest in known and len(found) < SHOWN_COPIES:
            name, other = known[digest]
            found.append((parts["test"].name_of(row), parts[name].name_of(other)))
    return found


def extract(dataset: LabelledDataset, encoder: FrozenEncoder, settings: Settings, **stamp: Any) -> store.Features:
    """Features of all parts of a dataset.

    Raises:
        GenviewError: a label is out of range, or an image cannot be read.
    """
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    parts = {name: part for name, part in parts.items() if part is not None}
    for name, part in parts.items():
        check_labels(part.labels, len(dataset.classes), f"dataset {dataset.name}, {name}")
    encoded = {name: encode(part, encoder, settings, f"{dataset.name}, {name}") for name, part in parts.items()}
    contents = hashlib.sha256()
    for name, part in encoded.items():
        contents.update(name.encode() + part.digests.tobytes() + part.labels.tobytes())
    details = {
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "metric": dataset.metric,
        "split_rule": dataset.split_rule,
        "known_overlap": dataset.known_overlap,
        "layer": settings.layer,
        "precision": settings.precision,
        "model_digest": encoder.digest,
        "data_digest": contents.hexdigest(),
        **stamp,
    }
    details["copies"] = copies(parts, encoded)
    for name, part in encoded.items():
        if not np.isfinite(part.features).all():
            row = int(np.flatnonzero(~np.isfinite(part.features).all(axis=1))[0])
            raise GenviewError(
                f"dataset {dataset.name}, {name}: the features of {parts[name].name_of(row)} hold NaN or infinities; "
                "the encoder diverged, or evaluation.features.precision is too low for it"
            )
    return store.Features(encoded, details)


def run(
    request: Request,
    settings: Settings,
    *,
    model: str | Path,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Encode a dataset with the model of a run and write the features.

    Raises:
        GenviewError: the dataset or the model is missing or wrong.
    """
    encoder = frozen.load(model, layer=settings.layer, precision=settings.precision, device=placement.default())
    store.save(extract(request.load(), encoder, settings, **stamp), output)
