"""Rows that hold their images: datasets saved with ``save_to_disk``, Parquet and Arrow files as the hub has them."""

import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from genview.config.dataset import Dataset
from genview.data import keys, names, values
from genview.data.picture import Picture
from genview.data.table_file import Table, is_image_type
from genview.errors import GenviewError

SUFFIXES = (".parquet", ".pq", ".arrow", ".feather")
_PART = re.compile(r"(.*?)-\d{5}-of-\d{5}")


class Source(NamedTuple):
    """What there is to read.

    Attributes:
        files: Parquet or Arrow files in order; of a saved dataset the files that its state names.
        saved: whether it was saved with ``save_to_disk``.
        image, caption, label, foreground_share: columns; None where there is none.
    """

    files: tuple[Path, ...]
    saved: bool
    image: str
    caption: str | None
    label: str | None
    foreground_share: str | None

    @property
    def told(self) -> str:
        """In words."""
        found = [f"images from the column {self.image!r}"]
        for name, what in ((self.caption, "captions"), (self.label, "labels")):
            found.append(f"{what} from {name!r}" if name else f"no {what}")
        return ", ".join(found)


def look(dataset: Dataset) -> Source:
    """Find the files and the columns; reads the first file's schema alone.

    Raises:
        GenviewError: nothing of the kind is there, several parts are, or a column is missing.
    """
    files, saved = _files(dataset.path)
    schema = Table(files[0]).schema
    if schema is None:
        raise GenviewError(f"{files[0]}: not a Parquet or Arrow file")
    there = schema.names
    image = _image_column(dataset, schema)
    return Source(
        files,
        saved,
        image,
        values.column(dataset.caption_column, values.CAPTION_COLUMNS, there, "caption_column", dataset.path),
        values.column(dataset.label_column, values.LABEL_COLUMNS, there, "label_column", dataset.path),
        values.column(dataset.foreground_share_column, (), there, "foreground_share_column", dataset.path),
    )


def _files(path: str) -> tuple[tuple[Path, ...], bool]:
    """The files behind a path, and whether they are a saved dataset."""
    folder = Path(path)
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8")).get("splits", [])
        raise GenviewError(f"{path}: holds splits; name one: {', '.join(f'{path}/{split}' for split in splits)}")
    if (folder / "state.json").is_file():
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            files = tuple(folder / entry["filename"] for entry in state["_data_files"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise GenviewError(f"{path}: its state.json is damaged: {error}") from error
        for file in files:
            if not file.is_file():
                raise GenviewError(f"{path}: not complete: {file.name} is missing")
        if not files:
            raise GenviewError(f"{path}: a saved dataset without rows")
        return files, True
    if folder.is_file():
        return (folder,), False
    found = glob.glob(path, recursive=True) if glob.has_magic(path) else sorted(map(str, folder.rglob("*")))
    inside = [Path(file) for file in found]
    inside = [file for file in inside if file.suffix.lower() in SUFFIXES and file.is_file()]
    base = folder if folder.is_dir() else Path(glob.escape(path)).parent
    files = tuple(sorted(file for file in inside if not names.hidden(_below(file, base))))
    if not files:
        raise GenviewError(
            f"{path}: no dataset saved with save_to_disk, and no Parquet or Arrow files; a dataset in the hub's cache "
            "is saved by: datasets.load_dataset(...)['train'].save_to_disk(folder)"
        )
    parts = sorted({(file.parent / match[1]).as_posix() for file in files if (match := _PART.match(file.name))})
    if len(parts) > 1 and not glob.has_magic(path):
        raise GenviewError(f"{path}: holds several parts; name one: {', '.join(f'{part}-*' for part in parts)}")
    return files, False


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def _image_column(dataset: Dataset, schema: pa.Schema) -> str:
    if dataset.image_column:
        values.column(dataset.image_column, (), schema.names, "image_column", dataset.path)
        if not is_image_type(schema.field(dataset.image_column).type):
            raise GenviewError(
                f"{dataset.path}: the column {dataset.image_column!r} holds {schema.field(dataset.image_column).type}, "
                "not images; a column of paths is read by source: table"
            )
        return dataset.image_column
    features = _features(schema)
    columns = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    columns = columns or [name for name in schema.names if is_image_type(schema.field(name).type)]
    usual = [name for name in values.IMAGE_COLUMNS if name in columns]
    if len(columns) > 1 and len(usual) == 1:
        columns = usual
    if len(columns) != 1:
        text = f"one column of images is needed; there are {columns or 'none'} among {', '.join(schema.names)}"
        state = f": state dataset.image_column: {columns[0]}" if columns else ""
        raise GenviewError(f"{dataset.path}: {text}{state}")
    return columns[0]


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features that Hugging Face's library writes into a file's schema; none where another wrote it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def pictures(dataset: Dataset) -> Iterator[Picture]:
    """The rows, in order; the key is the row's number, the bytes stay as they are.

    Raises:
        GenviewError: as ``look``, or a file is damaged or has other columns than the first.
    """
    source = look(dataset)
    schema = Table(source.files[0]).schema
    classes = _classes(_features(schema).get((source.label or "").split(".", 1)[0], {}))
    wanted = sorted({name.split(".", 1)[0] for name in source[2:] if name} | {source.image})
    index = 0
    for file in source.files:
        table = Table(file)
        missing = [name for name in wanted if name not in table.names]
        if missing:
            raise GenviewError(f"{file}: no column {', '.join(missing)}, which {source.files[0].name} has")
        for batch in table.columns(wanted):
            for entry in zip(*(batch[name] for name in wanted)):
                yield _row(index, dict(zip(wanted, entry)), source, classes, file.parent)
                index += 1


def _classes(feature: Any) -> Sequence[str] | None:
    """Names of a column of class numbers, or of lists of them."""
    while isinstance(feature, dict) and "names" not in feature and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    return feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _row(index: int, row: dict[str, Any], source: Source, classes: Sequence[str] | None, folder: Path) -> Picture:
    key, where = f"{index:09d}", f"row {index}"

    def refused(reason: str) -> Picture:
        return Picture(key, None, "", where, reason=reason)

    share = row.get(source.foreground_share) if source.foreground_share else None
    if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
        return refused(f"{source.foreground_share!r} is not a number in [0, 1]")
    try:
        captions = values.captions(values.within(row, source.caption))
    except values.UnusableValue as error:
        return refused(f"the column {source.caption!r} {error}")
    try:
        label = values.label(_named(values.within(row, source.label), classes))
    except values.UnusableValue as error:
        return refused(f"the column {source.label!r} {error}")
    image = row[source.image]
    if isinstance(image, bytes):
        image = {"bytes": image, "path": None}
    if image is None or (image.get("bytes") is None and not image.get("path")):
        return refused("there is no image")
    name = image.get("path") or ""
    try:
        data = image["bytes"] if image["bytes"] is not None else (folder / name).read_bytes()
    except OSError as error:
        return refused(f"the image cannot be read: {error}")
    suffix = names.extension(name)
    return Picture(key, data, suffix[1:] if suffix in keys.EXTENSIONS else "img", where, captions, label, share)


def _named(value: Any, classes: Sequence[str] | None) -> Any:
    """Names in place of class numbers; -1 and nothing stay."""
    if classes is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(entry, classes) for entry in value]
    if value == -1:
        return None
    if not 0 <= value < len(classes):
        raise values.UnusableValue(f"holds the class number {value}, but there are {len(classes)} classes")
    return classes[value]
