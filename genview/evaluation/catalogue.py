"""The datasets that probes and zero-shot classification know by name: one line each.

A new one is one more call of ``register``. Where a dataset has an official validation part it is the held-out part on
which choices are made; otherwise a seeded share of the training part is. Nothing heavy is imported here, so that a
study can be checked in a moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from genview.errors import GenviewError

Metric = Literal["top1", "mean_per_class"]
Options = Mapping[str, Any]

FASHION_MNIST_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts its files."""


@dataclass(frozen=True)
class Entry:
    """One dataset: how it is opened, its parts, its metric and its prompts."""

    reader: str
    """A class of ``torchvision.datasets``, or a function of ``genview.evaluation.official``."""
    train: tuple[Options, ...] = ()
    """Options of the reader for each part that counts as training data; empty: the dataset has no split."""
    validation: tuple[Options, ...] = ()
    test: tuple[Options, ...] = ()
    metric: Metric = "top1"
    folder: str | None = None
    """Folder under ``evaluation.root`` that must exist unless it may be downloaded; null: comes with a dependency."""
    downloadable: bool = True
    train_per_class: int | None = None
    """Datasets without a split: this many images of each class, drawn by the study's seed, are training data."""
    test_per_class: int | None = None
    """Datasets without a split: at most this many of the others are test data; null: all of them."""
    test_share: float | None = None
    """Datasets without a split, as a share instead: this share of each class is test data."""
    prompts: str | None = None
    """Its name in clip_benchmark's lists of templates and class names."""
    templates: tuple[str, ...] = ()
    """Templates for datasets that clip_benchmark has none for."""
    known_overlap: float = 0.0
    """Share of the official test images that are known to be training images too, byte for byte."""
    reader_root: str = ""
    """Folder below ``evaluation.root`` that the reader wants as its root."""
    fixed: Options = field(default_factory=dict)
    """Options of the reader for every part."""


ENTRIES: dict[str, Entry] = {}


def register(name: str, entry: Entry) -> None:
    """Add a dataset to the table.

    Raises:
        ValueError: the name is taken.
    """
    if name in ENTRIES:
        raise ValueError(f"dataset {name!r} is registered already")
    ENTRIES[name] = entry


def find(name: str) -> Entry:
    """The entry of a dataset.

    Raises:
        GenviewError: no such dataset; lists the known ones.
    """
    if name not in ENTRIES:
        raise GenviewError(
            f"no dataset {name!r}; there are {', '.join(sorted(ENTRIES))}, and those that the block "
            "evaluation.datasets of the configuration defines"
        )
    return ENTRIES[name]


def file_name(name: str) -> str:
    """A dataset's name as a part of paths: ``wds/mine`` is ``wds_mine``."""
    return name.replace("/", "_")


def location(name: str, root: str | Path) -> Path | None:
    """The folder that a dataset needs; null where none is needed.

    Raises:
        GenviewError: no such dataset.
    """
    entry = find(name)
    if entry.folder is None:
        return None
    packaged = FASHION_MNIST_PACKAGE if name == "fashion_mnist" else None
    return packaged if packaged and packaged.is_dir() else Path(root) / entry.folder


def _parts(option: str, *values: Any) -> tuple[Options, ...]:
    return tuple(MappingProxyType({option: value}) for value in values)


_TRAIN, _VALIDATION, _TEST = _parts("split", "train"), _parts("split", "val"), _parts("split", "test")
_IMAGENET = {"train": _TRAIN, "test": _VALIDATION, "folder": "imagenet", "reader_root": "imagenet"}
_IMAGENET |= {"downloadable": False, "prompts": "imagenet1k"}
_THREE = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}
_BOOLEAN = {"train": _parts("train", True), "test": _parts("train", False)}

register("in1k", Entry("ImageNet", **_IMAGENET))
register("in100", Entry("in100", **_IMAGENET))
register("cifar10", Entry("CIFAR10", **_BOOLEAN, folder="cifar-10-batches-py", prompts="cifar10", known_overlap=0.01))
register("cifar100", Entry("CIFAR100", **_BOOLEAN, folder="cifar-100-python", prompts="cifar100", known_overlap=0.01))
register("dtd", Entry("DTD", **_THREE, folder="dtd", prompts="dtd"))
register("flowers", Entry("Flowers102", **_THREE, metric="mean_per_class", folder="flowers-102", prompts="flowers"))
register("food101", Entry("Food101", train=_TRAIN, test=_TEST, folder="food-101", prompts="food101"))
register("sun397", Entry("SUN397", train_per_class=50, test_per_class=50, folder="SUN397", prompts="sun397"))
register(
    "aircraft",
    Entry(
        "FGVCAircraft",
        **_THREE,
        metric="mean_per_class",
        folder="fgvc-aircraft-2013b",
        prompts="fgvc_aircraft",
        fixed={"annotation_level": "variant"},
    ),
)
register(
    "pets",
    Entry(
        "OxfordIIITPet",
        train=_parts("split", "trainval"),
        test=_TEST,
        metric="mean_per_class",
        folder="oxford-iiit-pet",
        prompts="pets",
        fixed={"target_types": "category"},
    ),
)
register(
    "caltech101",
    Entry(
        "Caltech101",
        train_per_class=30,
        metric="mean_per_class",
        folder="caltech101",
        prompts="caltech101",
        fixed={"target_type": "category"},
    ),
)
register("digits", Entry("digits", test_share=0.25, prompts="mnist"))
register(
    "fashion_mnist",
    Entry(
        "fashion_mnist",
        **_BOOLEAN,
        folder="FashionMNIST/raw",
        downloadable=False,
        templates=("a photo of a {c}.", "a black and white photo of a {c}."),
    ),
)
