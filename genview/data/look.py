"""A first look at a collection, by the sources' own readers: what ingestion would stop at, before images are opened.

Tables are read to their end, tars in their first part: a table costs seconds, a thousand tars would cost minutes.
"""

import tempfile
from pathlib import Path

import pyarrow.compute as pc

from genview.config.dataset import Dataset
from genview.data import names, source_folder, source_huggingface, source_table, source_webdataset
from genview.data.listing import Listing
from genview.data.reader import data_root
from genview.data.unique import ADVICE, unique
from genview.errors import GenviewError

FIRST_FILES = 200
"""Files of a table that are looked for: if none of them is there, the folder is the wrong one."""


class Look:
    """What is known of a collection before it is ingested.

    Attributes:
        told: its columns in words; empty where there is nothing to tell.
        images: how many images there are at most; None where that is not known.
        uncaptioned: why there can be no captions; None where there may be.
        unlabelled: why there can be no labels, likewise.
    """

    def __init__(
        self,
        told: str = "",
        images: int | None = None,
        uncaptioned: str | None = None,
        unlabelled: str | None = None,
    ):
        self.told, self.images, self.uncaptioned, self.unlabelled = told, images, uncaptioned, unlabelled


def glance(dataset: Dataset) -> None:
    """Look at names alone, where a study was ingested already: in a moment, however large the collection is.

    Raises:
        GenviewError: what ingestion would say.
    """
    match dataset.source:
        case "table":
            source_table.look(dataset)
        case "huggingface":
            source_huggingface.look(dataset)


def look(dataset: Dataset) -> Look:
    """Look at a collection.

    Raises:
        GenviewError: what ingestion would say.
    """
    match dataset.source:
        case "table":
            return _table(dataset)
        case "huggingface":
            source = source_huggingface.look(dataset)
            missing = None if source.caption else f"{dataset.path} has no column of captions (dataset.caption_column)"
            unlabelled = None if source.label else f"{dataset.path} has no column of labels (dataset.label_column)"
            return Look(source.told, dataset.count, missing, unlabelled)
        case "webdataset":
            return _webdataset(dataset)
        case "folder":
            return _folder(dataset)
        case "scenes":
            return Look(images=dataset.count or 1000)
        case _:
            return Look(images=dataset.count)


def _table(dataset: Dataset) -> Look:
    table, columns = source_table.look(dataset)
    with tempfile.TemporaryDirectory() as folder:
        listing = Listing(dataset.count, Path(folder))
        source_table.collect(dataset, listing)
        listing.require_keys()
        images, captions, paths, labels = 0, 0, list[str](), set[str]()
        for items in unique(listing.rows, Path(folder), ADVICE["table"]):
            images += len(items)
            captions += len(items) - items["caption"].null_count
            paths += items["path"].slice(0, FIRST_FILES - len(paths)).to_pylist()
            if len(labels) < 2:
                labels.update(pc.unique(items["label"]).drop_null().to_pylist())
    failed, total = listing.refusals.failed, images + len(listing.refusals)
    if failed and failed > dataset.maximum_rejects * total:
        raise GenviewError(
            f"{dataset.path}: {failed} of {total} rows cannot be used, more than dataset.maximum_rejects allows, "
            f"such as {listing.refusals.first[0]}"
        )
    _require_files(dataset, paths)
    missing = None
    if columns.caption is None:
        missing = f"{dataset.path} has no column of captions, such as 'prompt' (dataset.caption_column)"
    elif not captions:
        missing = f"the column {columns.caption!r} of {dataset.path} is empty"
    unlabelled = None
    if columns.label is None:
        unlabelled = f"{dataset.path} has no column of labels, such as 'label' (dataset.label_column)"
    elif len(labels) < 2:
        unlabelled = f"the column {columns.label!r} of {dataset.path} names fewer than two classes"
    return Look(f"{table.told}; {columns.told}", images, missing, unlabelled)


def _require_files(dataset: Dataset, paths: list[str]) -> None:
    root = data_root(dataset, "")
    if paths and not any(_there(root, path) for path in paths):
        raise GenviewError(
            f"{dataset.path}: none of the first {len(paths)} images is there; paths are taken relative to {root} "
            f"(dataset.image_root), such as {root / paths[0]}"
        )


def _there(root: Path, path: str) -> bool:
    return (root / path).exists() or names.found(root, path) is not None


def _webdataset(dataset: Dataset) -> Look:
    tars = source_webdataset.tar_names(dataset.path)
    tar = source_webdataset.read(tars[0], data_root(dataset, ""), source_webdataset.fields_of(dataset))
    source_webdataset.require_fields(dataset, tar.seen)
    good = [sample for sample in tar.samples if sample.reason is None]
    if tar.samples and not good and not tar.damage:
        reason = tar.samples[0].reason
        raise GenviewError(f"{dataset.path}: no sample of {tars[0]} can be used: {tar.samples[0].source}: {reason}")
    missing = None
    if good and not any(sample.captions for sample in good):
        missing = f"no sample of {tars[0]} has one (.txt, or a field of its .json: dataset.caption_column)"
    unlabelled = None
    if good and not any(sample.label for sample in good):
        unlabelled = f"no sample of {tars[0]} has one (.cls, or a field of its .json: dataset.label_column)"
    return Look("", dataset.count, missing, unlabelled)


def _folder(dataset: Dataset) -> Look:
    root = Path(dataset.path)
    if not root.is_dir():
        raise GenviewError(f"{dataset.path}: is not a folder")
    images = captions = False
    inner = [child for child in root.iterdir() if child.is_dir() and not names.hidden(child.name)]
    for _, files in source_folder.folders(root):
        images = images or any(names.is_image(name) for name in files)
        captions = captions or any(names.extension(name) == source_folder.TEXT for name in files)
        if images and captions:
            break
    if not images:
        source_folder.collect(dataset, Listing(1))
    missing = None if captions else f"there is no .txt file beside the images in {dataset.path}"
    unlabelled = None if len(inner) > 1 else f"{dataset.path} holds no class folders"
    return Look("", dataset.count, missing, unlabelled)
