"""The manifest: one row per image that is kept, ordered by shard and, within a shard, by key."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genview import parquet, tables
from genview.data import keys
from genview.errors import GenviewError
from genview.spill import SHOWN, Some


def read(path: str | Path, shard: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The manifest, or one shard of it, or some of its columns.

    Args:
        path: ``manifest.parquet``.
        shard: name such as ``"0-of-2"``; only its rows are read.
        columns: names to read; default: all.

    Raises:
        GenviewError: no manifest, or it was made for another number of shards.
    """
    if shard is None:
        return parquet.read(path, tables.MANIFEST, columns)
    index, count = keys.parse_shard(shard)
    made_for = int(parquet.metadata(path).get("shards", count))
    if made_for != count:
        raise GenviewError(f"{path}: made for {made_for} shards, but shard {shard} was asked for; ingest again")
    return parquet.read(path, tables.MANIFEST, columns, filters=[("shard", "==", index)])


def read_group(path: str | Path, group: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of neighbouring shards, for a stage whose work on one shard would be shorter than its start.

    Args:
        path: ``manifest.parquet``.
        group: name such as ``"3-of-100"``: of 1,000 shards it holds 30 to 39, of 100 shards the third.
        columns: names to read; default: all.

    Raises:
        GenviewError: no manifest, or it was made for fewer shards than there are groups.
    """
    index, count = keys.parse_shard(group)
    shards = int(parquet.metadata(path).get("shards", count))
    if shards < count:
        raise GenviewError(f"{path}: made for {shards} shards, which make no {count} groups; ingest again")
    first, end = (-(-number * shards // count) for number in (index, index + 1))
    return parquet.read(path, tables.MANIFEST, columns, filters=[("shard", ">=", first), ("shard", "<", end)])


def place(path: str | Path, shard: str) -> tuple[int, int]:
    """Where a shard's rows lie in the manifest: its first row, and the row after its last.

    Only the statistics of the file's row groups and the shards of those at the edges are read.
    """
    index, _ = keys.parse_shard(shard)
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("shard")
        before = inside = 0
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            known = group.column(column).statistics
            if known is not None and known.has_min_max and known.max < index:
                before += group.num_rows
            elif known is None or not known.has_min_max or known.min <= index:
                shards = file.read_row_group(number, columns=["shard"])["shard"].to_numpy()
                before += int((shards < index).sum())
                inside += int((shards == index).sum())
    return before, before + inside


def place_in_group(path: str | Path, shard: str) -> int:
    """The row of a table of the shard's group (`keys.group_of`) at which the shard begins."""
    _, shards = keys.parse_shard(shard)
    group, groups = keys.parse_shard(keys.group_of(shard))
    first = -(-group * shards // groups)
    return place(path, shard)[0] - place(path, f"{first}-of-{shards}")[0]


def count(path: str | Path) -> int:
    """How many images there are."""
    return pq.read_metadata(path).num_rows


def without_caption(path: str | Path) -> Some:
    """The keys of the images that have no caption; only row groups that hold such images are read, and not all."""
    count, first = 0, tuple[str, ...]()
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("caption")
        for number in range(file.metadata.num_row_groups):
            known = file.metadata.row_group(number).column(column).statistics
            nulls = known.null_count if known is not None and known.has_null_count else None
            if nulls is None or (nulls and len(first) < SHOWN):
                rows = file.read_row_group(number, columns=["key", "caption"])
                keys = rows.filter(pc.is_null(rows["caption"]))["key"]
                nulls = len(keys)
                first += tuple(keys.slice(0, SHOWN - len(first)).to_pylist())
            count += nulls
    return Some(count, first)


def by_shard(path: str | Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of each shard in turn, also of those that are empty; the file is read once, a row group at a time."""
    shards = int(parquet.metadata(path).get("shards", 1))
    waiting = [tables.MANIFEST.empty_table().select(columns).replace_schema_metadata()]
    current = 0
    for piece in parquet.batches(path, tables.MANIFEST, ["shard", *columns]):
        numbers = piece["shard"].to_numpy()
        rows = piece.select(columns).replace_schema_metadata()
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(numbers, current, side="right"))
            waiting.append(rows.slice(start, stop - start))
            start = stop
            if start < len(rows):
                yield pa.concat_tables(waiting)
                waiting, current = [rows.slice(0, 0)], current + 1
    for _ in range(current, shards):
        yield pa.concat_tables(waiting)
        waiting = waiting[:1]


def shard_rows(path: str | Path, shard: str) -> pa.Table:
    """All columns of one shard's rows, in order of their keys; no rows if the shard is empty."""
    return read(path, shard)


def assemble(rows: pa.Table, shards: int) -> pa.Table:
    """Deal rows that are in memory to shards and put them in the manifest's order.

    Args:
        rows: the manifest's columns but ``shard``; keys must be unique.
        shards: number of shards.
    """
    rows = rows.append_column("shard", pa.array(keys.shard_of(rows["key"], shards), pa.int32()))
    names = [name for name in tables.MANIFEST.names if name in rows.column_names or name not in tables.MAY_BE_LEFT_OUT]
    return rows.sort_by([("shard", "ascending"), ("key", "ascending")]).select(names)
