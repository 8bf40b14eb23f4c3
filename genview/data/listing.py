"""What a source lists before any image is opened: items and refusals, in compact columns."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import tables
from genview.data import keys
from genview.errors import GenviewError

ITEM = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("label", pa.string()),
        ("foreground_share", pa.float32()),
        ("attributes", pa.string()),
        ("source", pa.string()),
    ]
)
"""An image as its source names it; length -1: the whole file. ``source`` is what a person would look for."""

BATCH = 16_384
SHOWN = 20
"""Problems that a message shows; it counts the others."""


FAILURES = ("unreadable", "invalid")
"""Kinds of refusals that count towards ``maximum_rejects``."""

ADVICE = defaultdict(
    lambda: "rename or remove one of each",
    webdataset="tars that count from 0 again are told apart by dataset.key_prefix: folder (or tar), which puts the "
    "folder's (or the tar's) name before each key",
    table="remove all rows of an image but one, or rename one of two files",
)
"""What to do about equal keys, by the source."""


def shown(lines: Sequence[str], total: int | None = None) -> str:
    """The first lines of a list, indented, and how many more there are."""
    total = len(lines) if total is None else total
    text = "".join(f"\n  {line}" for line in lines[:SHOWN])
    return text + (f"\n  ... and {total - SHOWN} more" if total > SHOWN else "")


class Listing:
    """Collects items and refusals; memory grows by their columns' bytes only."""

    def __init__(self, limit: int | None = None):
        self._limit = limit
        self._count = 0
        self._rows: list[tuple] = []
        self._batches: list[pa.RecordBatch] = []
        self._bad_keys: list[str] = []
        self._bad_key_count = 0
        self.rejected: list[tuple[str | None, str, str, str]] = []
        """(key, source, reason, kind) as in the table of refusals."""

    @property
    def full(self) -> bool:
        """Whether as many items are there as were asked for."""
        return self._limit is not None and self._count >= self._limit

    def add(
        self,
        key: str,
        path: str,
        source: str,
        *,
        offset: int = 0,
        length: int = -1,
        captions: Sequence[str] = (),
        label: str | None = None,
        foreground_share: float | None = None,
        attributes: str | None = None,
    ) -> None:
        """Add an image; captions and label are as `values` gives them."""
        wrong = keys.problem(key)
        if wrong:
            self._bad_key_count += 1
            if len(self._bad_keys) < SHOWN:
                self._bad_keys.append(f"{source}: the key {key!r} {wrong}")
            return
        caption, several = (captions[0] if captions else None), (list(captions) if len(captions) > 1 else None)
        self._rows.append((key, path, offset, length, caption, several, label, foreground_share, attributes, source))
        self._count += 1
        if len(self._rows) >= BATCH:
            self._flush()

    def reject(self, key: str | None, source: str, reason: str, kind: str = "invalid") -> None:
        """List an item that is no image of the study; it counts towards ``count`` like any other."""
        self.rejected.append((key, source, reason, kind))
        self._count += 1

    def _flush(self) -> None:
        if self._rows:
            columns = [pa.array(column, field.type) for column, field in zip(zip(*self._rows), ITEM)]
            self._batches.append(pa.RecordBatch.from_arrays(columns, schema=ITEM))
            self._rows.clear()

    def table(self, advice: str = ADVICE["folder"]) -> pa.Table:
        """All items, in the order of the source.

        Args:
            advice: what to do about equal keys.

        Raises:
            GenviewError: a key leads out of its folder, is absolute or otherwise unusable, or names two images.
        """
        self._flush()
        if self._bad_keys:
            raise GenviewError(
                f"{self._bad_key_count} images have keys that cannot name a file; rename or remove them:"
                + shown(self._bad_keys, self._bad_key_count)
            )
        items = _one_row_per_image(pa.Table.from_batches(self._batches, ITEM))
        _refuse_equal_keys(items, advice)
        return items


def _repeated(items: pa.Table) -> pa.ChunkedArray:
    counts = items.group_by("key").aggregate([("key", "count")])
    return counts.filter(pc.greater(counts["key_count"], 1))["key"]


def _one_row_per_image(items: pa.Table) -> pa.Table:
    """Rows of a table that name one file and differ in their captions become one row with all of these."""
    several = pc.is_in(items["key"], value_set=_repeated(items).combine_chunks())
    whole_files = pc.equal(items["length"], -1)
    places = np.flatnonzero(pc.and_(several, whole_files).to_numpy())
    if not len(places):
        return items
    groups: dict[str, list[tuple[int, dict]]] = {}
    columns = items.take(pa.array(places)).drop_columns(["source"]).to_pylist()
    for place, row in zip(places.tolist(), columns):
        groups.setdefault(row["key"], []).append((place, row))
    kept = np.ones(len(items), bool)
    captions: dict[int, list[str]] = {}
    for rows in groups.values():
        first = rows[0][1]
        texts = [caption for _, row in rows for caption in row["captions"] or filter(None, [row["caption"]])]
        distinct = list(dict.fromkeys(texts))
        same = all((row["path"], row["label"]) == (first["path"], first["label"]) for _, row in rows)
        if same and len(distinct) > 1:
            captions[rows[0][0]] = distinct
            kept[[place for place, _ in rows[1:]]] = False
    column = items["captions"].to_pylist()
    for place, texts in captions.items():
        column[place] = texts
    items = items.set_column(
        items.schema.get_field_index("captions"), ITEM.field("captions"), pa.array(column, ITEM.field("captions").type)
    )
    return items.filter(pa.array(kept))


def _refuse_equal_keys(items: pa.Table, advice: str) -> None:
    repeated = _repeated(items)
    if not len(repeated):
        return
    first = repeated.combine_chunks().sort()[:SHOWN]
    rows = items.select(["key", "source"]).filter(pc.is_in(items["key"], value_set=first)).to_pydict()
    sources: dict[str, list[str]] = {key: [] for key in first.to_pylist()}
    for key, source in zip(rows["key"], rows["source"]):
        sources[key].append(source)
    lines = [f"{key!r}: {' and '.join(found[:5])}" for key, found in sources.items()]
    raise GenviewError(
        f"{len(repeated)} keys name more than one image; a key is the path without its extension (or the __key__ of a "
        f"WebDataset), and must be unique: {advice}:" + shown(lines, len(repeated))
    )


def rejected_table(rows: Sequence[tuple[str | None, str, str, str]]) -> pa.Table:
    """Refusals as a table with the columns of ``tables.REJECTED``; text that is not Unicode is shown escaped."""
    clean = [
        tuple(None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in row)
        for row in rows
    ]
    columns = zip(*clean) if clean else ([] for _ in tables.REJECTED)
    return pa.table({name: list(column) for name, column in zip(tables.REJECTED.names, columns)}, tables.REJECTED)
