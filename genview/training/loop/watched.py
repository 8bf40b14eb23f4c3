"""Monitors on fixed images, encoded now and then during a run: how far the features have moved, and what they know.

The same images each time, in evaluation mode, as the encoder will be used: the middle of each, unchanged. Their values
are functions of the weights alone, and looking changes nothing, so that a watched run equals an unwatched one.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from genview import parquet, randomness, tables
from genview.config.training import Watch
from genview.data import manifest as manifests
from genview.neighbours import votes

PER_CLASS = 16
"""Images of a class, where there are labels: fewer classes are taken rather than fewer images of each."""

NEIGHBOURS = 10

AT_ONCE = 64
"""Images of a forward pass."""


def choose(labels: pa.ChunkedArray, count: int, seed: int) -> np.ndarray:
    """Rows that are watched, in ascending order: of some classes where there are labels, of all images where not.

    Args:
        labels: of all images, null where there is none.
        count: how many at most.
        seed: of the choice.

    Returns:
        int64 [n], n <= count.
    """
    total = len(labels)
    random = np.random.default_rng(seed)
    if labels.null_count == total:
        return np.sort(random.permutation(total)[:count])
    encoded = labels.combine_chunks().dictionary_encode() if isinstance(labels, pa.ChunkedArray) else labels
    numbers = encoded.indices.to_numpy(zero_copy_only=False)
    classes = random.permutation(len(encoded.dictionary))[: max(2, count // PER_CLASS)]
    each = max(count // len(classes), 1)
    rows = [random.permutation(np.flatnonzero(numbers == number))[:each] for number in classes]
    return np.sort(np.concatenate(rows))


def leave_one_out(features: Tensor, labels: Tensor) -> float:
    """k-NN accuracy in which each image is classified by the others: features [n, D], labels [n], a share."""
    right = 0
    for row in range(len(features)):
        others = torch.arange(len(features), device=features.device) != row
        found = votes(
            features[others], labels[others], features[row : row + 1], int(labels.max()) + 1, neighbours=NEIGHBOURS
        )
        right += int(found.argmax(dim=1) == labels[row])
    return right / len(features)


class Watched:
    """The images, and what the initial encoder made of them.

    Args:
        settings: the run's block.
        manifest: the study's manifest, a row for each image of the run.
        read: from a row's path, offset and length to its RGB image.
        transform: the encoder's own, for inference.
        seed: of the run.
    """

    def __init__(
        self,
        settings: Watch,
        manifest: str | Path,
        read: Callable[[str, int, int], Image.Image],
        transform: Callable[[Image.Image], Tensor],
        seed: int,
    ):
        self.settings, self.read, self.transform = settings, read, transform
        labels = manifests.read(manifest, columns=["label"])["label"]
        chosen = choose(labels, settings.images, randomness.seed("watched images", seed))
        self.rows = parquet.take(manifest, tables.MANIFEST, chosen, ["path", "offset", "length", "label"]).to_pylist()
        known = sorted({row["label"] for row in self.rows} - {None})
        self.labels = None
        if len(known) > 1:
            self.labels = torch.tensor([known.index(row["label"]) for row in self.rows])
        self.initial: Tensor | None = None

    @torch.inference_mode()
    def features(self, model: nn.Module, device: torch.device) -> Tensor:
        """Features float32 [n, F] on the CPU; the model's mode is as before afterwards."""
        training = model.training
        model.eval()
        found = []
        for start in range(0, len(self.rows), AT_ONCE):
            part = [self.read(row["path"], row["offset"], row["length"]) for row in self.rows[start : start + AT_ONCE]]
            images = torch.stack([self.transform(image) for image in part]).to(device)
            found.append(model.pooled(images).float().cpu())
        model.train(training)
        return torch.cat(found)

    def begin(self, model: nn.Module, device: torch.device) -> None:
        """Remember what the weights make of the images before the first step."""
        self.initial = self.features(model, device)

    def due(self, step: int, total: int, per_epoch: int, log_every: int) -> bool:
        """Whether this logged step is the first one after another ``every_epochs`` epochs, or the last."""
        span = self.settings.every_epochs * per_epoch
        return step == total or step // span > max(step - log_every, 0) // span

    def measure(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """``drift``, 1 - mean cosine to the initial features, and ``knn`` where there are labels."""
        features = self.features(model, device)
        cosine = nn.functional.cosine_similarity(features, self.initial, dim=1)
        values = {"drift": float(1 - cosine.double().mean())}
        if self.labels is not None:
            values["knn"] = leave_one_out(features, self.labels)
        return values
