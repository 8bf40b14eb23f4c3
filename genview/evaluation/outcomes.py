"""What a model said of each test image, and differences between two models that saw the same ones.

Two models are right and wrong mostly on the same images, so that intervals of two accuracies may overlap although one
model is better on almost every resample of the images: the difference has an interval of its own, from resamples of
the test images in which both models are looked at together (paired bootstrap, Efron 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import parquet, tables
from genview.errors import GenviewError
from genview.evaluation import accuracy

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Second minus first, over the same test images, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Test images (retrieval: images, whose captions are drawn together)."""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def predicted(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Class of the largest score [n]; one that shares it with the true class counts, as in the accuracy."""
    others = np.array(scores, dtype=np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return np.where(accuracy.hits(scores, labels, 1), labels, others.argmax(1))


def read(path: str | Path) -> pa.Table | None:
    """Outcomes of a result; None where there are none, as in studies of earlier versions."""
    if not Path(path).is_file():
        return None
    for schema in (tables.OUTCOMES, tables.RANKS):
        try:
            return parquet.read(path, schema)
        except GenviewError:
            continue
    return None


def correct(outcomes: pa.Table, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Whether each row counts as right [n], its class [n], and its image [n]; None: the metric needs more than that.

    Args:
        outcomes: of ``read``.
        metric: ``top1``, ``mean_per_class``, the same after ``knn_``, ``image_recall_at_K``, ``text_recall_at_K``.
    """
    keys = np.asarray(outcomes["key"].to_pylist(), dtype=object)
    if "_recall_at_" in metric:
        if "rank" not in outcomes.column_names:
            return None
        what, _, k = metric.partition("_recall_at_")
        # Images are found by captions, and the other way round.
        rows = np.asarray(outcomes["query"].to_pylist()) == ("text" if what == "image" else "image")
        ranks = outcomes["rank"].to_numpy()[rows]
        images = np.unique(keys[rows].astype(str), return_inverse=True)[1]
        return ranks < int(k), np.zeros(len(ranks), np.int64), images
    column = "neighbours" if metric.startswith("knn_") else "prediction"
    if column not in outcomes.column_names or metric.endswith("top5") or outcomes[column].null_count:
        return None
    labels = outcomes["label"].to_numpy().astype(np.int64)
    return outcomes[column].to_numpy() == labels, labels, np.arange(len(labels))


def difference(
    first: pa.Table, second: pa.Table, metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """Second minus first in a metric; None where they are not about the same test images in the same order."""
    values = resampled(second, metric, before=first, resamples=resamples, seed=seed)
    one, other = correct(first, metric), correct(second, metric)
    if values is None or one is None or other is None:
        return None
    (before, labels, images), after = one, other[0]
    kind = "mean_per_class" if metric.endswith("mean_per_class") else "top1"
    value = accuracy.value(kind, after, labels) - accuracy.value(kind, before, labels)
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    return Difference(float(value), float(low), float(high), int(images.max()) + 1)


def resampled(
    outcomes: pa.Table, metric: str, *, before: pa.Table | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray | None:
    """A metric over resamples of the test images, float64 [resamples]; None where the outcomes do not give it.

    Args:
        outcomes: of a model.
        metric: as in ``correct``.
        before: of another model: the values are then differences, this one minus the other; None also where they are
            not about the same test images in the same order.
        resamples: how many.
        seed: of the draws.
    """
    found = correct(outcomes, metric)
    if found is None or not len(found[0]):
        return None
    hits, labels, images = found
    changes = hits.astype(np.float64)
    if before is not None:
        names = [name for name in ("key", "label", "query") if name in before.column_names]
        if before.column_names != outcomes.column_names or not before.select(names).equals(outcomes.select(names)):
            return None
        earlier = correct(before, metric)
        if earlier is None:
            return None
        changes -= earlier[0].astype(np.float64)
    count, random = int(images.max()) + 1, np.random.default_rng(seed)
    sums, sizes = np.bincount(images, changes, count), np.bincount(images, minlength=count)
    values = np.empty(resamples)
    for index in range(resamples):
        rows = random.integers(count, size=count)
        if metric.endswith("mean_per_class"):
            values[index] = _per_class(changes[rows], labels[rows])
        else:
            values[index] = sums[rows].sum() / sizes[rows].sum()
    return values


def between_seeds(
    first: Sequence[pa.Table], second: Sequence[pa.Table], metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """Mean of the second group of models minus that of the first, each group trained with several seeds.

    Both levels are resampled (hierarchical bootstrap, Davison and Hinkley 1997, section 3.8): seeds within each group,
    and test images, the same for all models. With few seeds the interval is still too narrow.

    Args:
        first, second: outcomes of each model of a group; at least two models a group.
        metric: as in ``correct``; other than ``mean_per_class``.
        resamples: how many.
        seed: of the draws.

    Returns:
        None where the models were not tested on the same images in the same order, or the metric is per class.
    """
    every = [*first, *second]
    names = [name for name in ("key", "label", "query") if name in every[0].column_names]
    if min(len(first), len(second)) < 2 or metric.endswith("mean_per_class"):
        return None
    if any(
        t.column_names != every[0].column_names or not t.select(names).equals(every[0].select(names)) for t in every
    ):
        return None
    found = [correct(table, metric) for table in every]
    if any(each is None or not len(each[0]) for each in found):
        return None
    images = next(each[2] for each in found if each is not None)
    count = int(images.max()) + 1
    sizes = np.bincount(images, minlength=count)
    sums = np.stack([np.bincount(images, each[0], count) for each in found if each is not None])
    groups = (sums[: len(first)], sums[len(first) :])
    random, values = np.random.default_rng(seed), np.empty(resamples)
    for index in range(resamples):
        rows = random.integers(count, size=count)
        total = sizes[rows].sum()
        before, after = (
            group[random.integers(len(group), size=len(group))][:, rows].sum() / (len(group) * total)
            for group in groups
        )
        values[index] = after - before
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    before, after = (group.sum() / (len(group) * sizes.sum()) for group in groups)
    return Difference(float(after - before), float(low), float(high), count)


def _per_class(changes: np.ndarray, labels: np.ndarray) -> float:
    total = np.bincount(labels)
    return float((np.bincount(labels, changes)[total > 0] / total[total > 0]).mean())


def ranks(images: np.ndarray, texts: np.ndarray, image_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the right answers, 0 the first: of its image for each text [m], of its best text for each image [n].

    Args:
        images: embeddings [n, E], L2-normalised; texts: [m, E] likewise.
        image_of: the image of each text, int64 [m].
    """
    of_texts = np.empty(len(texts), np.int64)
    best, of_images = np.full(len(images), -np.inf), np.zeros(len(images), np.int64)
    own = np.einsum("me,me->m", texts, images[image_of])
    np.maximum.at(best, image_of, own)
    for start in range(0, len(texts), 1024):
        rows = slice(start, start + 1024)
        scores = texts[rows] @ images.T
        scores[np.arange(len(scores)), image_of[rows]] = own[rows]
        of_texts[rows] = (scores > own[rows, None]).sum(1)
        of_images += (scores > best[None]).sum(0)
    return of_texts, of_images
