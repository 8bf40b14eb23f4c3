"""A labelled dataset in parts: training, validation (where the dataset has one), test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from genview.data import images
from genview.errors import GenviewError

Purpose = Literal["probe", "zeroshot", "retrieval"]
"""What a dataset is opened for: a probe needs labels and training images, zero-shot classification labels, retrieval
captions."""


@dataclass(frozen=True)
class Part:
    """Images that are opened one at a time, with their labels."""

    open: Callable[[int], Image.Image]
    """From a position in ``rows`` of the source to an RGB image; picklable."""
    rows: np.ndarray
    """Positions in the source, int64 [n]."""
    labels: np.ndarray
    """Class numbers, int64 [n]."""
    captions: Sequence[Sequence[str]] | None = None
    """Captions of each image, none or several; None where the source has none at all."""
    name: Callable[[int], str] | None = None
    """From a position to what a person calls the image (its file or key)."""

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Image.Image:
        """Image number ``index`` of this part, RGB; of one that is very thin, the middle."""
        return images.middle(self.open(int(self.rows[index])).convert("RGB"))

    def name_of(self, index: int) -> str:
        """What a person calls image number ``index``."""
        row = int(self.rows[index])
        return self.name(row) if self.name else f"#{row}"

    def take(self, indices: np.ndarray) -> "Part":
        """The part that holds only these images, indices [n], in this order."""
        captions = None if self.captions is None else [self.captions[i] for i in indices]
        return Part(self.open, self.rows[indices], self.labels[indices], captions, self.name)


@dataclass(frozen=True)
class LabelledDataset:
    """A dataset for evaluation."""

    name: str
    classes: tuple[str, ...]
    metric: str
    train: Part
    test: Part
    validation: Part | None
    split_rule: str
    """In words: where the parts come from."""
    templates: tuple[str, ...] = ()
    """Zero-shot templates with ``{c}`` for the class name."""
    known_overlap: float = 0.0
    """Share of test images known to be training images too."""
    names_as_written: bool = False
    """Whether the class names stand in prompts as they are: the data set's makers wrote them for that."""


def seeded_parts(
    labels: np.ndarray,
    *,
    seed: int,
    second_share: float | None = None,
    first_per_class: int | None = None,
    second_per_class: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of positions, drawn class by class with a seed; each in ascending order.

    Args:
        labels: class numbers [n].
        seed: of the draw.
        second_share: share of each class that goes to the second set: at least one image where a class has two.
        first_per_class: instead of a share: this many of each class go to the first set (one always remains).
        second_per_class: with ``first_per_class``: at most this many of the others go to the second set.
    """
    random = np.random.default_rng([seed, len(labels)])
    first, second = [], []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if second_share is not None:
            count = min(max(1, round(len(members) * second_share)), len(members) - 1)
            cut, end = len(members) - count, len(members)
        else:
            cut = min(first_per_class, len(members) - 1) if len(members) > 1 else 1
            end = len(members) if second_per_class is None else cut + second_per_class
        first.append(members[:cut])
        second.append(members[cut:end])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Refuse labels [n] that are not class numbers.

    Raises:
        GenviewError: a label is outside 0 .. classes - 1; names the first.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise GenviewError(
            f"{where}: image {int(bad[0])} has label {int(labels[bad[0]])}, but there are {classes} classes, numbered "
            f"0 to {classes - 1} ({len(bad)} such labels)"
        )
