"""Datasets of the user's own: folders of classes, a table, the study's own labels, fresh drawn scenes."""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.data import images, keys, manifest, scenes, source_table
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError
from genview.evaluation.splits import LabelledDataset, Part, seeded_parts

FIRST_TRAIN_SCENE, FIRST_TEST_SCENE = 1_000_000_000, 2_000_000_000
"""Far beyond the indices that any study draws for pretraining, and any small model was trained on."""

DEFAULT_TEMPLATES = ("a photo of a {c}.",)
VALIDATION_NAMES = ("val", "valid", "validation")


def load(
    name: str,
    block: LocalDataset,
    *,
    seed: int,
    source: Dataset | None = None,
    manifest_path: str | Path | None = None,
) -> LabelledDataset:
    """Open a dataset that the configuration defines.

    Args:
        name: its name in the configuration.
        block: its block.
        seed: of scenes, and of the parts where the user gave none.
        source: ``own_labels`` only: the study's dataset.
        manifest_path: ``own_labels`` only: the study's manifest.

    Raises:
        GenviewError: a folder, file, column or part is missing; says which.
    """
    match block.kind:
        case "scenes":
            return _scenes(name, block, seed)
        case "image_folder":
            return _image_folder(name, block, seed)
        case "table":
            return _table(name, block, seed)
        case "own_labels":
            if source is None or manifest_path is None:
                raise ValueError("own_labels needs the study's dataset and manifest")
            return _own_labels(name, block, seed, source, Path(manifest_path))


def _open_file(root: Path, files: list[str], row: int) -> Image.Image:
    try:
        return images.decode((root / files[row]).read_bytes())
    except OSError as error:
        raise GenviewError(f"{root / files[row]}: cannot be read: {error.strerror}") from error
    except GenviewError as error:
        raise GenviewError(f"{root / files[row]}: {error}") from error


def _limited(part: Part, count: int | None, seed: int) -> Part:
    """The first ``count`` after a seeded shuffle, in their old order."""
    if count is None or count >= len(part):
        return part
    return part.take(np.sort(np.random.default_rng([seed, count]).permutation(len(part))[:count]))


def _assemble(
    name: str, block: LocalDataset, seed: int, classes: list[str], whole: Part, parts: dict[str, np.ndarray]
) -> LabelledDataset:
    """Parts as the user named them; what is not named is drawn from the rest, class by class."""
    train, test = parts.get("train"), parts.get("test")
    rule = "parts as given"
    if train is None or test is None:
        rest = train if train is not None else test if test is not None else np.arange(len(whole))
        first, second = seeded_parts(whole.labels[rest], seed=seed, second_share=block.test_share)
        train, test = rest[first], rest[second]
        rule = f"no parts given: {block.test_share:g} of each class is test data, drawn with seed {seed}"
    validation = parts.get("validation")
    for where, rows in (("training", train), ("test", test)):
        if len(rows) == 0:
            raise GenviewError(f"dataset {name}: no {where} images; a class needs two images to be split")
    return LabelledDataset(
        name=name,
        classes=tuple(classes),
        metric=block.metric,
        train=_limited(whole.take(train), block.train, seed),
        validation=None if validation is None or not len(validation) else whole.take(validation),
        test=_limited(whole.take(test), block.test, seed),
        split_rule=rule,
        templates=block.prompts or DEFAULT_TEMPLATES,
    )


def _image_folder(name: str, block: LocalDataset, seed: int) -> LabelledDataset:
    root = Path(block.path)
    if not root.is_dir():
        raise GenviewError(f"dataset {name}: {root}: no such folder; set evaluation.datasets.{name}.path")
    folders = {"train": ("train",), "validation": VALIDATION_NAMES, "test": ("test",)}
    found = {part: root / given for part, names in folders.items() for given in names if (root / given).is_dir()} or {
        "all": root
    }
    classes = sorted({child.name for folder in found.values() for child in folder.iterdir() if child.is_dir()})
    number = {label: index for index, label in enumerate(classes)}
    files: list[str] = []
    labels: list[int] = []
    parts: dict[str, np.ndarray] = {}
    for part, folder in found.items():
        start = len(files)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in keys.EXTENSIONS and path.is_file() and path.parent != folder:
                files.append(path.relative_to(root).as_posix())
                labels.append(number[path.relative_to(folder).parts[0]])
        parts[part] = np.arange(start, len(files))
    if len(classes) < 2:
        raise GenviewError(f"dataset {name}: {root}: needs a folder for each of at least two classes, found {classes}")
    parts.pop("all", None)
    whole = Part(
        partial(_open_file, root, files), np.arange(len(files)), np.asarray(labels, np.int64), None, files.__getitem__
    )
    return _assemble(name, block, seed, classes, whole, parts)


def _table(name: str, block: LocalDataset, seed: int) -> LabelledDataset:
    path = Path(block.path)
    rows = [row for batch in source_table.text_batches(path) for row in batch.to_pylist()]
    column = block.label if rows and block.label in rows[0] else "label"
    for needed in ("image", column):
        if not rows or needed not in rows[0]:
            there = list(rows[0]) if rows else "no rows"
            raise GenviewError(f"dataset {name}: {path}: no column {needed!r}; there are {there}")
    for line, row in enumerate(rows, start=2):
        if not row["image"] or not row[column]:
            raise GenviewError(f"dataset {name}: {path}, line {line}: empty image or label")
    files = [row["image"] for row in rows]
    classes = sorted({row[column] for row in rows})
    number = {label: index for index, label in enumerate(classes)}
    labels = np.asarray([number[row[column]] for row in rows], np.int64)
    captions = [row["prompt"] or None for row in rows] if "prompt" in rows[0] else None
    whole = Part(partial(_open_file, path.parent, files), np.arange(len(rows)), labels, captions, files.__getitem__)
    parts = {}
    if "split" in rows[0]:
        named = np.asarray([row["split"] for row in rows])
        unknown = sorted(set(named) - {"train", "test", *VALIDATION_NAMES})
        if unknown:
            raise GenviewError(f"dataset {name}: {path}: column split holds {unknown}; allowed: train, val, test")
        parts = {
            "train": np.flatnonzero(named == "train"),
            "validation": np.flatnonzero(np.isin(named, VALIDATION_NAMES)),
            "test": np.flatnonzero(named == "test"),
        }
    return _assemble(name, block, seed, classes, whole, parts)


def _open_reference(reader: Reader, references: list[tuple[str, int, int]], row: int) -> Image.Image:
    return reader.image(*references[row])


def _own_labels(name: str, block: LocalDataset, seed: int, source: Dataset, path: Path) -> LabelledDataset:
    rows = manifest.read(path, columns=["key", "path", "offset", "length", "caption", "label"])
    rows = rows.filter(pc.is_valid(rows["label"])).sort_by("key")
    classes = sorted(set(rows["label"].to_pylist()))
    if len(classes) < 2:
        raise GenviewError(f"dataset {name}: {path}: needs labels of at least two classes, found {classes}")
    number = {label: index for index, label in enumerate(classes)}
    labels = np.asarray([number[label] for label in rows["label"].to_pylist()], np.int64)
    references = list(zip(rows["path"].to_pylist(), rows["offset"].to_pylist(), rows["length"].to_pylist()))
    whole = Part(
        partial(_open_reference, Reader(data_root(source, path)), references),
        np.arange(len(rows)),
        labels,
        rows["caption"].to_pylist(),
        rows["key"].to_pylist().__getitem__,
    )
    return _assemble(name, block, seed, classes, whole, {})


_SCENE_LABELS = {
    "class": scenes.CLASSES,
    "colour": tuple(scenes.COLOURS),
    "background": tuple(scenes.BACKGROUNDS),
    "texture": scenes.TEXTURES,
}
_SCENE_TEMPLATES = {
    "class": ("a {c}",),
    "colour": tuple(f"a {{c}} {shape}" for shape in scenes.CLASSES),
    "background": tuple(f"a {shape} on a {{c}} background" for shape in scenes.CLASSES),
    "texture": tuple(f"a {{c}} {shape}" for shape in scenes.CLASSES),
}


@cache
def _drawn(first: int, count: int, seed: int) -> tuple[scenes.Scene, ...]:
    return tuple(scenes.scene(first + index, seed=seed) for index in range(count))


def _open_scene(first: int, seed: int, row: int) -> Image.Image:
    return Image.fromarray(scenes.scene(first + row, seed=seed).image)


def _scene_part(first: int, count: int, seed: int, label: str) -> Part:
    drawn = _drawn(first, count, seed)
    labels = np.asarray([getattr(scene, f"{label}_index") for scene in drawn], np.int64)
    # All visible constraints: a caption that many scenes share could not retrieve its own.
    captions = [
        scenes.caption(scene, [c for c in scenes.CONSTRAINTS if c != "tilt" or scene.tilt_is_visible])
        for scene in drawn
    ]
    return Part(partial(_open_scene, first, seed), np.arange(count), labels, captions, partial(_scene_name, first))


def _scene_name(first: int, row: int) -> str:
    return f"scene {first + row}"


def _scenes(name: str, block: LocalDataset, seed: int) -> LabelledDataset:
    train, test = block.train or 1500, block.test or 1000
    return LabelledDataset(
        name=name,
        classes=_SCENE_LABELS[block.label],
        metric=block.metric,
        train=_scene_part(FIRST_TRAIN_SCENE, train, seed, block.label),
        validation=None,
        test=_scene_part(FIRST_TEST_SCENE, test, seed, block.label),
        split_rule=f"fresh scenes: {FIRST_TRAIN_SCENE} on for training, {FIRST_TEST_SCENE} on for testing, seed {seed}",
        templates=block.prompts or _SCENE_TEMPLATES[block.label],
    )
