"""Datasets with a name: torchvision's with their official parts, scikit-learn's digits, Debian's Fashion-MNIST."""

import gzip
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from genview.errors import GenviewError
from genview.evaluation import catalogue, complete
from genview.evaluation.catalogue import Entry
from genview.evaluation.splits import LabelledDataset, Part, check_labels, seeded_parts

FASHION_CLASSES = tuple(torchvision.datasets.FashionMNIST.classes)


def load(name: str, *, root: str | Path, download: bool, seed: int) -> LabelledDataset:
    """Open a dataset of the table.

    Args:
        name: a name of ``genview.evaluation.catalogue``.
        root: folder of torchvision's datasets.
        download: let torchvision fetch what is missing.
        seed: of the parts of datasets that have none.

    Raises:
        GenviewError: unknown, missing or incomplete; names the folder and what to do.
    """
    entry = catalogue.find(name)
    place = catalogue.location(name, root)
    if place is not None and not place.is_dir() and not (download and entry.downloadable):
        raise GenviewError(f"dataset {name}: {place}: no such folder; {_remedy(name, entry)}")
    wrong = complete.missing(name, root) if place is not None and not (download and entry.downloadable) else None
    if wrong:
        raise GenviewError(f"dataset {name}: {place}: {wrong}; {_remedy(name, entry)}")
    read = partial(_read, name, entry, Path(root), download and entry.downloadable)
    if entry.train:
        classes, train = read(entry.train)
        _, test = read(entry.test)
        validation = read(entry.validation)[1] if entry.validation else None
        rule = "official parts"
    else:
        classes, whole = read(({},))
        first, second = seeded_parts(
            whole.labels,
            seed=seed,
            second_share=entry.test_share,
            first_per_class=entry.train_per_class,
            second_per_class=entry.test_per_class,
        )
        train, test, validation = whole.take(first), whole.take(second), None
        rule = f"no official parts: {_in_words(entry)}, drawn with seed {seed}"
    for where, part in (("train", train), ("validation", validation), ("test", test)):
        if part is not None:
            check_labels(part.labels, len(classes), f"dataset {name}, {where}")
    return LabelledDataset(
        name=name,
        classes=tuple(classes),
        metric=entry.metric,
        train=train,
        validation=validation,
        test=test,
        split_rule=rule,
        templates=entry.templates,
        known_overlap=entry.known_overlap,
    )


def _in_words(entry: Entry) -> str:
    if entry.test_share is not None:
        return f"{entry.test_share:g} of each class is test data"
    rest = "all others" if entry.test_per_class is None else f"{entry.test_per_class} of the others"
    return f"{entry.train_per_class} images of each class are training data, {rest} test data"


def _remedy(name: str, entry: Entry) -> str:
    if name == "fashion_mnist":
        return (
            f"install Debian's package dataset-fashion-mnist ({catalogue.FASHION_MNIST_PACKAGE}), or put its four "
            "idx files (.gz or not) there"
        )
    fetch = ", or set evaluation.download: true" if entry.downloadable else ""
    return f"put the files there as torchvision.datasets.{_reader_class(entry)} expects them{fetch}"


def _reader_class(entry: Entry) -> str:
    return "ImageNet" if entry.reader == "in100" else entry.reader


def _read(name: str, entry: Entry, root: Path, download: bool, parts: tuple[Any, ...]) -> tuple[list[str], Part]:
    """One part of the dataset, joined from one or several of the reader's."""
    if len(parts) != 1:
        raise ValueError(f"{name}: a part is read in one piece")
    options = {**entry.fixed, **parts[0]}
    if entry.reader == "digits":
        return _digits()
    if entry.reader == "fashion_mnist":
        return _fashion_mnist(catalogue.location(name, root), **options)
    reader = getattr(torchvision.datasets, _reader_class(entry))
    if entry.downloadable:
        options["download"] = download
    try:
        source = reader(root=str(root / entry.reader_root), **options)
    except (RuntimeError, OSError, ValueError, KeyError, IndexError) as error:
        place = catalogue.location(name, root)
        raise GenviewError(
            f"dataset {name}: {place}: missing or incomplete ({error}); {_remedy(name, entry)}"
        ) from error
    labels = np.asarray(_labels(source), dtype=np.int64)
    rows = np.arange(len(source), dtype=np.int64)
    classes = _class_names(source)
    if entry.reader == "in100":
        classes, rows, labels = _hundred_classes(source, classes, labels)
    return classes, Part(partial(_image_of, source), rows, labels)


def _image_of(source: Any, index: int) -> Image.Image:
    return source[index][0]


def _labels(source: Any) -> Any:
    """torchvision's list of labels, under whichever name the class has it: reading them item by item decodes images."""
    for attribute in ("targets", "_labels", "y"):
        if hasattr(source, attribute):
            return getattr(source, attribute)
    return [source[index][1] for index in range(len(source))]


def _class_names(source: Any) -> list[str]:
    names = getattr(source, "classes", None) or getattr(source, "categories", None)
    if names is None:
        names = [str(label) for label in range(max(_labels(source)) + 1)]
    return [name[0] if isinstance(name, tuple) else name for name in names]


def _hundred_classes(source: Any, classes: list[str], labels: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The hundred classes of Contrastive Multiview Coding (Tian et al. 2020), numbered in order of their ids."""
    wanted = resources.files(__package__).joinpath("in100.txt").read_text(encoding="utf-8").split()
    missing = sorted(set(wanted) - set(source.wnids))
    if missing:
        raise GenviewError(f"dataset in100: {source.root}: classes missing: {', '.join(missing[:5])} ({len(missing)})")
    old = [source.wnids.index(wnid) for wnid in sorted(wanted)]
    new_of_old = np.full(len(classes), -1)
    new_of_old[old] = np.arange(len(old))
    rows = np.flatnonzero(new_of_old[labels] >= 0)
    return [classes[number] for number in old], rows, new_of_old[labels[rows]]


def _digits() -> tuple[list[str], Part]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 0..16 as 0..255."""
    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    rows = np.arange(len(pixels), dtype=np.int64)
    return [str(digit) for digit in range(10)], Part(partial(_grey, pixels), rows, data.target.astype(np.int64))


def _grey(pixels: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(pixels[index])


def _fashion_mnist(folder: Path, train: bool) -> tuple[list[str], Part]:
    """The four idx files, compressed as Debian has them or not."""
    stem = "train" if train else "t10k"
    pixels = _idx(folder / f"{stem}-images-idx3-ubyte")
    labels = _idx(folder / f"{stem}-labels-idx1-ubyte").astype(np.int64)
    if len(pixels) != len(labels):
        raise GenviewError(f"dataset fashion_mnist: {folder}: {len(pixels)} {stem} images, but {len(labels)} labels")
    rows = np.arange(len(pixels), dtype=np.int64)
    return list(FASHION_CLASSES), Part(partial(_grey, pixels), rows, labels)


def _idx(path: Path) -> np.ndarray:
    """An array of the idx format: magic 0 0 8 n, n big-endian sizes, bytes."""
    packed = path.with_name(path.name + ".gz")
    try:
        data = gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()
    except (OSError, EOFError) as error:
        raise GenviewError(f"dataset fashion_mnist: {path}: cannot be read: {error}") from error
    if data[:3] != b"\0\0\x08":
        raise GenviewError(f"dataset fashion_mnist: {path}: not an idx file of bytes")
    sizes = np.frombuffer(data, ">u4", data[3], 4)
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if body.size != int(np.prod(sizes, dtype=np.int64)):
        raise GenviewError(f"dataset fashion_mnist: {path}: cut short")
    return body.reshape(sizes.astype(np.int64))
