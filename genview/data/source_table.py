"""A table of images: a column of paths and, if it has them, columns of captions and labels."""

import logging
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from genview.config.dataset import Dataset
from genview.data import keys, names, values
from genview.data.listing import Listing, shown
from genview.data.table_file import Table
from genview.errors import GenviewError

log = logging.getLogger(__name__)

IMAGE = "image"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Columns(NamedTuple):
    """Which column of a table has which role; None: there is none."""

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


def text_batches(path: str | Path, wanted: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a table, in batches, every value as text; an empty field is an empty string.

    Text such as ``NA`` or ``None`` stays text.

    Args:
        path: the file, in any form that ``table_file`` reads.
        wanted: columns to read, those that the table has; default: all.

    Raises:
        GenviewError: the file is missing, not UTF-8, or not a table.
    """
    for columns in Table(path).columns(wanted):
        texts = {name: [_text(path, name, value) for value in column] for name, column in columns.items()}
        yield pa.record_batch({name: pa.array(column, pa.string()) for name, column in texts.items()})


def _text(path: str | Path, name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    try:
        return values.text(value) or ""
    except values.UnusableValue as error:
        raise GenviewError(f"{path}: a value of the column {name!r} {error}") from None


def columns_of(path: str | Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        GenviewError: the file is missing, empty or no table, or has two columns of one name.
    """
    return Table(path).names


def require_columns(path: str | Path, wanted: list[str]) -> list[str]:
    """Names of a table's columns, after checking that the wanted ones are among them.

    Raises:
        GenviewError: a column is missing; says which there are.
    """
    found = columns_of(path)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise GenviewError(
            f"{path}: no column {', '.join(map(repr, missing))}; its header is {found}. A table without a header needs "
            "one as its first line, such as: image,prompt,label"
        )
    return found


def look(dataset: Dataset) -> tuple[Table, Columns]:
    """Open the dataset's table and tell its columns.

    Raises:
        GenviewError: the table is missing or is not a table, a stated column is not there, or no column holds paths of
            images.
    """
    table = Table(dataset.path, dataset.separator, dataset.image_column)
    where, there = dataset.path, table.names
    image = values.column(dataset.image_column, values.IMAGE_COLUMNS, there, "image_column", where)
    if image is None:
        raise GenviewError(
            f"{where}: no column {IMAGE!r}; its header is {there} ({table.told}). Name the column of paths: "
            f"dataset.image_column: {there[0]}. A table without a header needs one as its first line, such as: "
            "image,prompt,label"
        )
    if table.holds_images(image):
        raise GenviewError(
            f"{where}: the column {image!r} holds the images themselves, not paths; write source: huggingface, which "
            "reads such files"
        )
    caption = values.column(dataset.caption_column, values.CAPTION_COLUMNS, there, "caption_column", where)
    label = values.column(dataset.label_column, values.LABEL_COLUMNS, there, "label_column", where)
    share = values.column(dataset.foreground_share_column, (), there, "foreground_share_column", where)
    return table, Columns(image, caption, label, share)


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the rows of ``dataset.path``; paths are relative to ``image_root``.

    An absolute path is accepted if it lies under the root. A row is named by its number after the header, from 1.
    Rows of one image with different captions are one image with several captions.

    Raises:
        GenviewError: the table is missing or malformed, has no rows, or a foreground share is not a number in [0, 1].
    """
    table, columns = look(dataset)
    log.info("%s: %s; %s", dataset.path, table.told, columns.told)
    root = os.path.abspath(dataset.image_root or Path(dataset.path).parent)
    bad_shares: list[str] = []
    row = 0
    tops = {name.split(".", 1)[0] for name in columns if name} | {name for name in columns if name}
    for batch in table.columns(sorted(tops)):
        for entry in _rows(batch):
            if listing.full:
                break
            row += 1
            _add_row(listing, row, entry, columns, root, bad_shares)
    if bad_shares:
        raise GenviewError(
            f"{dataset.path}: {len(bad_shares)} values of {columns.foreground_share!r} are not numbers in [0, 1]; "
            "leave a field empty where the share is not known:" + shown(bad_shares)
        )
    if not row:
        raise GenviewError(f"{dataset.path}: the table has a header but no rows")


def _rows(batch: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    titles = list(batch)
    for row in zip(*batch.values()):
        yield dict(zip(titles, row))


def _add_row(
    listing: Listing, row: int, entry: dict[str, Any], columns: Columns, root: str, bad_shares: list[str]
) -> None:
    try:
        image = entry[columns.image]
        image = image if isinstance(image, str) else values.text(image)
    except values.UnusableValue as error:
        listing.reject(None, f"row {row}", f"the column {columns.image!r} {error}")
        return
    source = f"row {row}: {image}"
    if not image or not image.strip():
        listing.reject(None, f"row {row}", f"the column {columns.image!r} is empty")
        return
    if _ADDRESS.match(image):
        listing.reject(None, source, "an address, not a file: fetch the images first (img2dataset does)")
        return
    share, bad = _share(entry.get(columns.foreground_share) if columns.foreground_share else None)
    if bad:
        bad_shares.append(f"row {row}: {bad!r}")
        return
    path = relative(image, root)
    key = keys.key_of(names.tidy(path))
    try:
        captions = values.captions(values.within(entry, columns.caption))
    except values.UnusableValue as error:
        listing.reject(key, source, f"the column {columns.caption!r} {error}")
        return
    try:
        label = values.label(values.within(entry, columns.label))
    except values.UnusableValue as error:
        listing.reject(key, source, f"the column {columns.label!r} {error}")
        return
    listing.add(key, path, source, captions=captions, label=label, foreground_share=share)


def _share(value: Any) -> tuple[float | None, str | None]:
    """A foreground share, or what stands in its place."""
    if value is None or value == "":
        return None, None
    try:
        number = float(value)
        if 0 <= number <= 1:
            return number, None
    except (TypeError, ValueError):
        pass
    return None, str(value)


def relative(image: str, root: str) -> str:
    """An image's path relative to the root, in one spelling; ``..`` and NUL are left for the key's check to refuse."""
    plain = names.tidy(image)
    if "\0" in image or ".." in plain.split("/"):
        return plain
    for text in (image, plain):
        if text.startswith(root.rstrip("/") + "/"):
            return posixpath.normpath(text[len(root.rstrip("/")) + 1 :])
    return posixpath.normpath(image)
