"""Datasets of the user's own: folders of classes, a table, the study's own labels, fresh drawn scenes."""

import logging
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.data import images, keys, manifest, names, scenes, source_folder, values
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError
from genview.evaluation import evaluation_table
from genview.evaluation.evaluation_table import PARTS
from genview.evaluation.splits import LabelledDataset, Part, Purpose, seeded_parts

log = logging.getLogger("genview")

FIRST_TRAIN_SCENE, FIRST_TEST_SCENE = 1_000_000_000, 2_000_000_000
"""Far beyond the indices that any study draws for pretraining, and any small model was trained on."""

PART_FOLDERS = ("train", "val", "valid", "validation", "test")
"""Folders that are parts, in any case of letters, and no classes."""

DEFAULT_TEMPLATES = ("a photo of a {c}.",)


def load(
    name: str,
    block: LocalDataset,
    *,
    seed: int,
    source: Dataset | None = None,
    manifest_path: str | Path | None = None,
    purpose: Purpose = "probe",
) -> LabelledDataset:
    """Open a dataset that the configuration defines.

    Args:
        name: its name in the configuration.
        block: its block.
        seed: of scenes, and of the parts where the user gave none.
        source: ``own_labels`` only: the study's dataset.
        manifest_path: ``own_labels`` only: the study's manifest.
        purpose: what it is opened for: without labels or training images a dataset may still serve.

    Raises:
        GenviewError: a folder, file, column or part is missing; says which.
    """
    match block.kind:
        case "scenes":
            return _scenes(name, block, seed)
        case "image_folder":
            return _image_folder(name, block, seed, purpose)
        case "table":
            return _table(name, block, seed, purpose)
        case "own_labels":
            if source is None or manifest_path is None:
                raise ValueError("own_labels needs the study's dataset and manifest")
            return _own_labels(name, block, seed, source, Path(manifest_path), purpose)


def found(file: Path) -> Path | None:
    """A file, or the one that is meant where its name is written otherwise than on the disk; None if there is none."""
    if file.exists():
        return file
    other = names.found(file.parent, file.name)
    return file.parent / other if other else None


def _open_file(root: Path, files: list[str], row: int) -> Image.Image:
    try:
        return images.decode((found(root / files[row]) or root / files[row]).read_bytes())
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
    name: str,
    block: LocalDataset,
    seed: int,
    classes: list[str],
    whole: Part,
    parts: dict[str, np.ndarray],
    purpose: Purpose,
) -> LabelledDataset:
    """Parts as the user named them; what is not named is drawn from the rest, class by class, where it is needed."""
    parts = {part: rows for part, rows in parts.items() if len(rows)}
    train, validation, test = parts.get("train"), parts.get("validation"), parts.get("test")
    rule = "parts as given"
    if test is None and validation is not None:
        test, validation = validation, None
        rule = "parts as given; there is no test part, so that the validation part is the test part"
    none = np.empty(0, np.int64)
    if purpose != "probe" and test is not None:
        train = none if train is None else train
    elif purpose == "retrieval" and train is None and block.kind != "own_labels":
        train, test, rule = none, np.arange(len(whole)), "no parts given: all images are test data"
    elif train is None or test is None:
        given = "train" if train is not None else "test" if test is not None else None
        rest = train if train is not None else test if test is not None else np.arange(len(whole))
        first, second = seeded_parts(whole.labels[rest], seed=seed, second_share=block.test_share)
        train, test = rest[first], rest[second]
        rule = f"only a part {given} is given" if given else "no parts given"
        rule += f": {block.test_share:g} of each class is test data, drawn with seed {seed}"
    for where, rows in (("training", train), ("test", test)):
        if len(rows) == 0 and (where == "test" or purpose == "probe"):
            raise GenviewError(f"dataset {name}: no {where} images; a class needs two images to be split")
    return LabelledDataset(
        name=name,
        classes=tuple(classes),
        metric=block.metric,
        train=_limited(whole.take(train), block.train, seed),
        validation=None if validation is None else whole.take(validation),
        test=_limited(whole.take(test), block.test, seed),
        split_rule=rule,
        templates=block.prompts or DEFAULT_TEMPLATES,
    )


def _folders_of_parts(name: str, root: Path) -> dict[str, Path]:
    """The folder of each part, by the part's name; the root itself where there are no parts.

    Raises:
        GenviewError: two folders for one part.
    """
    found: dict[str, Path] = {}
    for child in sorted(root.iterdir()):
        part = PARTS.get(child.name.lower()) if child.name.lower() in PART_FOLDERS else None
        if part and child.is_dir():
            if part in found:
                raise GenviewError(
                    f"dataset {name}: {root}: {found[part].name} and {child.name} are both a {part} part"
                )
            found[part] = child
    return found or {"all": root}


def _image_folder(name: str, block: LocalDataset, seed: int, purpose: Purpose) -> LabelledDataset:
    root = Path(block.path)
    if not root.is_dir():
        raise GenviewError(f"dataset {name}: {root}: no such folder; set evaluation.datasets.{name}.path")
    files: list[str] = []
    labels: list[str] = []
    captions: list[tuple[str, ...]] = []
    parts: dict[str, np.ndarray] = {}
    refused: list[str] = []
    for part, folder in _folders_of_parts(name, root).items():
        start = len(files)
        for inner, entries in source_folder.folders(folder):
            if not inner and purpose != "retrieval":
                continue  # beside the class folders
            place = "/".join(filter(None, [folder.relative_to(root).as_posix().removeprefix("."), inner]))
            texts = source_folder.texts(entries) if purpose == "retrieval" else {}
            for entry in entries:
                path = f"{place}/{entry}" if place else entry
                if names.is_image(entry):
                    files.append(path)
                    labels.append(inner.split("/", 1)[0])
                    captions.append(_captions_beside(root, place, texts.get(names.normal(keys.key_of(entry)))))
                elif names.refusal(entry):
                    refused.append(path)
        parts[part] = np.arange(start, len(files))
    if refused:
        log.warning("dataset %s: %d pictures are not opened, such as %s", name, len(refused), refused[0])
    classes = sorted(set(labels))
    if purpose == "retrieval":
        if not files:
            raise GenviewError(f"dataset {name}: {root}: holds no image")
    elif len(classes) < 2:
        raise GenviewError(f"dataset {name}: {root}: needs a folder for each of at least two classes, found {classes}")
    number = {label: index for index, label in enumerate(classes)}
    parts.pop("all", None)
    whole = Part(
        partial(_open_file, root, files),
        np.arange(len(files)),
        np.asarray([number[label] for label in labels], np.int64),
        captions if any(captions) else None,
        files.__getitem__,
    )
    return _assemble(name, block, seed, classes, whole, parts, purpose)


def _captions_beside(root: Path, folder: str, text: str | None) -> tuple[str, ...]:
    if not text:
        return ()
    path = f"{folder}/{text}" if folder else text
    try:
        return values.captions((root / path).read_bytes())
    except values.UnusableValue as error:
        raise GenviewError(f"{root / path}: the caption {error}; convert it") from None
    except OSError as error:
        raise GenviewError(f"{root / path}: cannot be read: {error.strerror}") from error


def _table(name: str, block: LocalDataset, seed: int, purpose: Purpose) -> LabelledDataset:
    rows = evaluation_table.read(name, block, labelled=purpose != "retrieval")
    root = Path(block.path).parent
    classes = sorted({row.label for row in rows if row.label is not None})
    if purpose != "retrieval" and len(classes) < 2:
        raise GenviewError(f"dataset {name}: {block.path}: needs labels of at least two classes, found {classes}")
    number = {label: index for index, label in enumerate(classes)}
    files = [row.path for row in rows]
    captions = [row.captions for row in rows]
    whole = Part(
        partial(_open_file, root, files),
        np.arange(len(rows)),
        np.asarray([number.get(row.label, 0) for row in rows], np.int64),
        captions if any(captions) else None,
        files.__getitem__,
    )
    named = [row.split for row in rows]
    parts = {
        part: np.flatnonzero([split is not None and PARTS[split] == part for split in named])
        for part in ("train", "validation", "test")
    }
    return _assemble(name, block, seed, classes, whole, parts, purpose)


def _open_reference(reader: Reader, references: list[tuple[str, int, int]], row: int) -> Image.Image:
    return reader.image(*references[row])


def _own_labels(
    name: str, block: LocalDataset, seed: int, source: Dataset, path: Path, purpose: Purpose
) -> LabelledDataset:
    rows = manifest.read(path, columns=["key", "path", "offset", "length", "caption", "captions", "label"])
    wanted = "caption" if purpose == "retrieval" else "label"
    rows = rows.filter(pc.is_valid(rows[wanted])).sort_by("key")
    classes = sorted(set(rows["label"].to_pylist()) - {None})
    if purpose != "retrieval" and len(classes) < 2:
        raise GenviewError(f"dataset {name}: {path}: needs labels of at least two classes, found {classes}")
    number = {label: index for index, label in enumerate(classes)}
    labels = np.asarray([number.get(label, 0) for label in rows["label"].to_pylist()], np.int64)
    references = list(zip(rows["path"].to_pylist(), rows["offset"].to_pylist(), rows["length"].to_pylist()))
    captions = [
        tuple(several or ([one] if one else []))
        for one, several in zip(rows["caption"].to_pylist(), rows["captions"].to_pylist())
    ]
    whole = Part(
        partial(_open_reference, Reader(data_root(source, path)), references),
        np.arange(len(rows)),
        labels,
        captions,
        rows["key"].to_pylist().__getitem__,
    )
    return _assemble(name, block, seed, classes, whole, {}, purpose)


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
        (scenes.caption(scene, [c for c in scenes.CONSTRAINTS if c != "tilt" or scene.tilt_is_visible]),)
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
