"""Tables by key in the manifest's order, whatever order they were made in, without holding them in memory."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from genview import parquet, spill, tables
from genview.errors import GenviewError

Source = Callable[[], Iterable[pa.Table]]
"""Gives a table's rows, some at a time; each call begins anew."""


class Aligned(NamedTuple):
    """A table beside the manifest.

    Attributes:
        missing: keys of the manifest that the table lacks, in the manifest's order.
        unknown: keys of the table that are not in the manifest, sorted.
        pieces: a row for each row of the manifest, in pieces of ``parquet.ROW_GROUP``; null where there is none.
    """

    missing: spill.Some
    unknown: spill.Some
    pieces: Iterator[pa.Table]


def _keys(manifest: str | Path) -> Iterator[pa.Table]:
    return parquet.batches(manifest, tables.MANIFEST, ["key"])


def _in_order(manifest: str | Path, source: Source) -> bool:
    pairs = zip(_keys(manifest), parquet.in_pieces(piece.select(["key"]) for piece in source()), strict=True)
    try:
        return all(wanted["key"].combine_chunks().equals(found["key"].combine_chunks()) for wanted, found in pairs)
    except ValueError:  # one has more pieces than the other
        return False


@contextlib.contextmanager
def aligned(
    manifest: str | Path, source: Source, schema: pa.Schema, *, name: str, beside: str | Path
) -> Iterator[Aligned]:
    """A table in the manifest's order.

    A table that is in this order already, as the study's own are, is read as it is; others are joined on the disk.

    Args:
        manifest: ``manifest.parquet``.
        source: the table; its columns include ``key``.
        schema: its columns.
        name: the table's, for messages.
        beside: what is being made; what does not fit into memory lies beside it in the meantime.

    Raises:
        GenviewError: the table has a key more than once.
    """
    if _in_order(manifest, source):
        yield Aligned(spill.Some(), spill.Some(), parquet.in_pieces(source()))
        return
    plain = pa.schema([pa.field(field.name, field.type) for field in schema])
    with spill.folder(beside) as place, spill.database(place) as base:
        base.keep("found", (piece.cast(plain) for piece in source()), plain)
        repeated = base.some("SELECT key FROM found GROUP BY key HAVING count(*) > 1 ORDER BY key")
        if repeated.count:
            raise GenviewError(f"{name}: one row per key is needed; more than one for {repeated}")
        base.keep("wanted", spill.numbered(_keys(manifest)), pa.schema([spill.ROW, ("key", pa.string())]))
        columns = ", ".join(f"found.{field.name}" for field in plain if field.name != "key")
        base.make(
            "joined",
            f"SELECT wanted.row, wanted.key AS key, {columns} FROM wanted LEFT JOIN found ON wanted.key = found.key",
        )
        joined = base.rows("SELECT * FROM joined ORDER BY row")
        yield Aligned(
            base.some("SELECT key FROM wanted ANTI JOIN found USING (key) ORDER BY row"),
            base.some("SELECT key FROM found ANTI JOIN wanted USING (key) ORDER BY key"),
            parquet.in_pieces(piece.select(plain.names).cast(plain) for piece in joined),
        )
