"""Rows of a user's table for evaluation, read as the tables of collections are: one row per image."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.data import names, source_table, values
from genview.errors import GenviewError

PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The part that a folder's name, or a value of the column ``split``, stands for; in any case of letters."""


class Row(NamedTuple):
    """An image: its path beside the table, class name, captions, and the part that its row names."""

    path: str
    label: str | None
    captions: tuple[str, ...]
    split: str | None


def read(name: str, block: LocalDataset, *, labelled: bool) -> list[Row]:
    """The images of a table, in the order of their first rows.

    Rows of one image with different captions become one.

    Args:
        name: of the dataset, for messages.
        block: its block.
        labelled: whether each image needs a label.

    Raises:
        GenviewError: the table is missing or malformed, a column is not there, a row has no image or no label, or rows
            of one image disagree; names the row.
    """
    where = f"dataset {name}: {block.path}"
    dataset = Dataset(
        source="table",
        path=block.path,
        image_column=block.image_column,
        caption_column=block.caption_column,
        separator=block.separator,
    )
    table, columns = source_table.look(dataset)
    label_column = block.label if block.label in table.names else columns.label
    if labelled and label_column is None:
        raise GenviewError(f"{where}: no column 'label'; there are {', '.join(table.names)}")
    split_column = "split" if "split" in table.names else None
    wanted = {columns.image, label_column, split_column, (columns.caption or "").split(".", 1)[0], columns.caption}
    root = os.path.abspath(Path(block.path).parent)
    found: dict[str, tuple[int, Row]] = {}
    for number, entry in enumerate(_entries(table.columns(sorted(filter(None, wanted)))), 1):
        here = f"{where}, row {number}"
        row = _row(here, entry, columns, label_column if labelled else None, split_column, root)
        if row.path not in found:
            found[row.path] = (number, row)
            continue
        first, known = found[row.path]
        if (known.label, known.split) != (row.label, row.split):
            raise GenviewError(f"{here}: lists {row.path} with another label or split than row {first}")
        if not set(row.captions) - set(known.captions):
            raise GenviewError(f"{here}: lists {row.path} again, as row {first} does; remove one")
        found[row.path] = (first, known._replace(captions=tuple(dict.fromkeys((*known.captions, *row.captions)))))
    if not found:
        raise GenviewError(f"{where}: the table has a header but no rows")
    without = [number for number, row in found.values() if row.split is None]
    if split_column and 0 < len(without) < len(found):
        raise GenviewError(f"{where}, row {without[0]}: no split, while other rows have one ({len(without)} such rows)")
    return [row for _, row in found.values()]


def _entries(batches: Iterator[dict[str, list[Any]]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        titles = list(batch)
        for row in zip(*batch.values()):
            yield dict(zip(titles, row))


def _row(
    here: str,
    entry: dict[str, Any],
    columns: source_table.Columns,
    label_column: str | None,
    split_column: str | None,
    root: str,
) -> Row:
    try:
        image = values.text(entry[columns.image])
        captions = values.captions(values.within(entry, columns.caption))
        label = values.label(entry[label_column]) if label_column else None
        split = values.text(entry[split_column]) if split_column else None
    except values.UnusableValue as error:
        raise GenviewError(f"{here}: a value {error}") from None
    if not image:
        raise GenviewError(f"{here}: empty image")
    if label_column and label is None:
        raise GenviewError(f"{here}: empty label (or -1, which says that there is none) in {label_column!r}")
    if split is not None:
        split = split.lower()
        if split not in PARTS:
            raise GenviewError(f"{here}: the column split holds {split!r}; allowed: train, val, test")
    path = names.tidy(source_table.relative(image, root))
    return Row(path, label, captions, split)
