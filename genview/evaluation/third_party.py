"""Datasets that clip_benchmark knows by name, at ``<root>/<name>`` as it expects them, and its WebDataset form.

Its builder starts downloads of whatever is missing: what it would miss is looked for first, so that nothing is fetched
unless the user said so. Its WebDataset folders (``wds/<name>``) are read by this package's own reader of tars, which
knows how many images there are and keeps several captions of each.
"""

import contextlib
import importlib.util
import io
import re
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genview.data import source_webdataset
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.evaluation.splits import LabelledDataset, Part, Purpose

PREFIXES = ("wds/", "vtab/", "tfds/")
"""Families of names that have no list."""

CHOICES = ("sugar_crepe", "winoground")
"""Datasets that ask to choose between captions, which is not retrieval."""

_FETCHED = {
    "mscoco_captions": ("val2014", "coco_test_karpathy.json"),
    "multilingual_mscoco_captions": ("multilingual_mscoco_captions-en.json",),
    "crossmodal3600": ("crossmodal3600_captions-en.json",),
    "xtd10": ("xtd10-en.json",),
    "xtd200": ("xtd200-en.json",),
    "flickr30k-200": ("flickr30k_200-en.json",),
    "flickr30k": ("flickr30k_test_karpathy.txt",),
    "flickr8k": ("flickr8k_test_karpathy.txt",),
    "imagenetv2": ("ImageNetV2-matched-frequency",),
}
"""What clip_benchmark's builder fetches if it is not there, beside the folder itself."""

RETRIEVAL = frozenset({*_FETCHED} - {"imagenetv2"})
"""Its retrieval sets."""


@cache
def names() -> frozenset[str]:
    """The datasets that clip_benchmark builds by name, read from its source: it keeps no list, and imports torch."""
    package = importlib.util.find_spec("clip_benchmark").submodule_search_locations[0]
    source = Path(package, "datasets/builder.py").read_text(encoding="utf-8").split("\ndef ")[1]
    return frozenset(re.findall(r"dataset_name == [\"']([^\"']+)[\"']", source)) - {"dummy"}


def known(name: str) -> bool:
    """Whether clip_benchmark may know a name."""
    return name in names() or name.startswith(PREFIXES) or name.split("/")[0] in CHOICES


def place(name: str, root: str | Path) -> Path:
    """The folder of a dataset."""
    return Path(root) / name.removeprefix("wds/").replace("/", "_")


def problem(name: str, root: str | Path, *, download: bool, purpose: Purpose) -> str | None:
    """What would keep a dataset from being opened, as far as names of files tell; None if nothing."""
    folder = place(name, root)
    if name.split("/")[0] in CHOICES:
        return f"{name} asks to choose between captions; it is not a set for {purpose}"
    if purpose == "retrieval" and not name.startswith("wds/") and name not in RETRIEVAL:
        return f"{name} has no captions to retrieve by; retrieval sets are {', '.join(sorted(RETRIEVAL))}, and wds/..."
    if purpose != "retrieval" and name in RETRIEVAL:
        return f"{name} has captions and no classes; it is a set for retrieval"
    if name.startswith("wds/"):
        return _packed_problem(name, folder, purpose)
    if download:
        return None
    if not folder.is_dir():
        return f"{folder}: no such folder; put it there as clip_benchmark expects it, or set evaluation.download: true"
    missing = [file for file in _FETCHED.get(name, ()) if not (folder / file).exists()]
    if missing:
        return (
            f"{folder}: {', '.join(missing)} is missing, which clip_benchmark would fetch; put it there, or set "
            "evaluation.download: true"
        )
    return _listed_pictures_problem(name, folder)


def _listed_pictures_problem(name: str, folder: Path) -> str | None:
    """Pictures that the list of captions of a Flickr set names and that are not there."""
    if name not in ("flickr30k", "flickr8k"):
        return None
    lines = (folder / _FETCHED[name][0]).read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    listed = dict.fromkeys(line.split(".jpg,")[0].strip() + ".jpg" for line in lines if ".jpg," in line)
    if not listed:
        return f"{folder / _FETCHED[name][0]}: lists no image"
    missing = [image for image in listed if not (folder / image).is_file()]
    return f"{folder}: {len(missing)} of {len(listed)} images are missing, such as {missing[0]}" if missing else None


def _packed_problem(name: str, folder: Path, purpose: Purpose) -> str | None:
    try:
        tars = _tars(folder, "test")
        kind = _lines(folder / "dataset_type.txt", ["classification"])[0].strip().lower()
    except GenviewError as error:
        return str(error)
    if kind == "multilabel":
        return f"{folder}: several labels an image are not measured here"
    if purpose == "retrieval" and kind != "retrieval":
        return f"{folder}: dataset_type.txt does not say 'retrieval': it has labels, not captions"
    if purpose != "retrieval" and kind == "retrieval":
        return f"{folder}: is a set for retrieval (dataset_type.txt)"
    if purpose == "zeroshot" and not (folder / "classnames.txt").is_file():
        return f"{folder}: classnames.txt is missing"
    if purpose == "probe" and not (folder / "train/nshards.txt").is_file():
        return f"{folder}: has no part train; a probe needs one"
    return None if tars else f"{name} is not at {folder}"


def _lines(path: Path, otherwise: list[str] | None = None) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines() or [""]
    except FileNotFoundError:
        if otherwise is not None:
            return otherwise
        raise GenviewError(f"{path.parent}: {path.name} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GenviewError(f"{path}: cannot be read: {error}") from error


def _tars(folder: Path, part: str) -> list[str]:
    """The tars of a part, relative to the folder.

    Raises:
        GenviewError: the folder, the number of tars or one of them is missing.
    """
    if not folder.is_dir():
        raise GenviewError(f"{folder}: no such folder")
    text = _lines(folder / part / "nshards.txt")[0].strip()
    if not text.isdigit() or int(text) < 1:
        raise GenviewError(f"{folder / part}/nshards.txt: no number of tars: {text!r}")
    found = [f"{part}/{number}.tar" for number in range(int(text))]
    missing = [name for name in found if not (folder / name).is_file()]
    if missing:
        raise GenviewError(f"{folder}: {len(missing)} of {len(found)} tars are missing: {', '.join(missing[:3])}")
    return found


def load(name: str, root: str | Path, *, download: bool, purpose: Purpose) -> LabelledDataset:
    """Open a dataset of clip_benchmark.

    Raises:
        GenviewError: not known, not there, incomplete, or not for this purpose.
    """
    if wrong := problem(name, root, download=download, purpose=purpose):
        raise GenviewError(f"dataset {name}: {wrong}")
    folder = place(name, root)
    if name.startswith("wds/"):
        return _packed(name, folder, purpose)
    test = _build(name, folder, "test", download, purpose)
    train = validation = None
    if purpose == "probe":
        train = _part(name, _build(name, folder, "train", download, purpose), purpose)
    classes = [] if purpose == "retrieval" else [str(label) for label in test.classes]
    return LabelledDataset(
        name=name,
        classes=tuple(classes),
        metric="top1",
        train=train or _nothing(),
        validation=validation,
        test=_part(name, test, purpose),
        split_rule="clip_benchmark's parts",
        templates=tuple(getattr(test, "templates", None) or ()),
        names_as_written=True,
    )


def _nothing() -> Part:
    return Part(_no_image, np.empty(0, np.int64), np.empty(0, np.int64))


def _no_image(row: int) -> Image.Image:
    raise IndexError(row)


_TASKS = {"probe": "linear_probe", "zeroshot": "zeroshot_classification", "retrieval": "zeroshot_retrieval"}


def _build(name: str, folder: Path, split: str, download: bool, purpose: Purpose) -> Any:
    from clip_benchmark.datasets.builder import build_dataset  # brings torch; names and files are checked without

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            return build_dataset(
                name, root=str(folder), transform=None, split=split, download=download, task=_TASKS[purpose]
            )
    except (Exception, SystemExit) as error:  # whatever the builders of sixty datasets raise
        text = str(error) or printed.getvalue().strip() or type(error).__name__
        raise GenviewError(f"dataset {name}: {folder}: cannot be opened (part {split}): {text}") from error


def _part(name: str, items: Any, purpose: Purpose) -> Part:
    if not hasattr(items, "__len__"):
        raise GenviewError(f"dataset {name}: it does not tell how many images it has; pack it as wds/...")
    rows = np.arange(len(items), dtype=np.int64)
    if purpose == "retrieval":
        return Part(partial(_first, items), rows, np.zeros(len(items), np.int64), _Captions(items))
    labels = next((getattr(items, kind) for kind in ("targets", "_labels", "labels") if hasattr(items, kind)), None)
    labels = [items[index][1] for index in rows] if labels is None else labels
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise GenviewError(f"dataset {name}: several labels an image are not measured here")
    return Part(partial(_first, items), rows, labels.astype(np.int64))


def _first(items: Any, index: int) -> Image.Image:
    return items[index][0]


class _Captions(Sequence):
    """Captions of a retrieval set, by their image; read without its pixels where the set can."""

    def __init__(self, items: Any):
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[str, ...]:
        items = self._items
        if hasattr(items, "_load_target") and hasattr(items, "ids"):
            found = items._load_target(items.ids[index])
        elif isinstance(getattr(items, "data", None), list) and isinstance(items.data[index], tuple):
            found = items.data[index][1]
        else:
            found = items[index][1]
        return tuple([found] if isinstance(found, str) else found)


def _packed(name: str, folder: Path, purpose: Purpose) -> LabelledDataset:
    """A folder of clip_benchmark's WebDataset form."""
    test = _packed_part(name, folder, "test", purpose)
    train = _packed_part(name, folder, "train", purpose) if purpose == "probe" else _nothing()
    classes = [] if purpose == "retrieval" else _lines(folder / "classnames.txt", [])
    classes = [line.strip() for line in classes if line.strip()]
    if purpose == "probe" and not classes:
        classes = [str(number) for number in range(int(max(train.labels.max(), test.labels.max())) + 1)]
    templates = _lines(folder / "zeroshot_classification_templates.txt", [])
    return LabelledDataset(
        name=name,
        classes=tuple(classes),
        metric="top1",
        train=train,
        validation=None,
        test=test,
        split_rule="parts as given",
        templates=tuple(line.strip() for line in templates if line.strip()) or ("a photo of a {c}.",),
        names_as_written=True,
    )


def _packed_part(name: str, folder: Path, part: str, purpose: Purpose) -> Part:
    references: list[tuple[str, int, int]] = []
    labels: list[int] = []
    captions: list[tuple[str, ...]] = []
    keys: list[str] = []
    for sample in _packed_samples(name, folder, part):
        references.append((sample.tar, sample.offset, sample.length))
        keys.append(f"{sample.tar}: {sample.key}")
        lines = [line.strip() for caption in sample.captions for line in caption.splitlines()]
        captions.append(tuple(dict.fromkeys(line for line in lines if line)))
        labels.append(0 if purpose == "retrieval" else _number(name, sample))
    rows = np.arange(len(references), dtype=np.int64)
    opened = partial(_open_reference, Reader(folder), references)
    return Part(opened, rows, np.asarray(labels, np.int64), captions, keys.__getitem__)


def _packed_samples(name: str, folder: Path, part: str) -> Iterator[Any]:
    fields = source_webdataset.Fields(None, None, None)
    for file in _tars(folder, part):
        tar = source_webdataset.read(file, folder, fields)
        wrong = tar.damage or next((sample.reason for sample in tar.samples if sample.reason), None)
        if wrong:
            raise GenviewError(f"dataset {name}: {folder / file}: {wrong}")
        for sample in tar.samples:
            yield _Packed(sample, file)


class _Packed:
    """A sample and the tar that it is in."""

    def __init__(self, sample: Any, tar: str):
        self.key, self.offset, self.length = sample.key, sample.offset, sample.length
        self.captions, self.label, self.tar = sample.captions, sample.label, tar


def _number(name: str, sample: _Packed) -> int:
    try:
        return int(sample.label)
    except (TypeError, ValueError):
        raise GenviewError(
            f"dataset {name}: {sample.tar}: the sample {sample.key} has no class number (.cls), but {sample.label!r}"
        ) from None


def _open_reference(reader: Reader, references: list[tuple[str, int, int]], row: int) -> Image.Image:
    return reader.image(*references[row])
