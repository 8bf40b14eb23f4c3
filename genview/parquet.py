"""Tables are written and read: whole, piece by piece, or some rows of them.

Their columns are those of `genview.tables`. Each file carries metadata under the key ``genview``: stage, study, package
version, digest of the parameters that made it and, where the stage has code of its own, the digest of that code.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genview import __version__, atomic
from genview.errors import GenviewError
from genview.tables import MAY_BE_LEFT_OUT

METADATA_KEY = b"genview"

ROW_GROUP = 65_536
"""Rows that are compressed together: a shard's rows are found and read without the rest of the table."""


class Writer:
    """Writes a table piece by piece; the file is the same however its rows are divided into pieces.

    Args:
        path: named in messages.
        schema: one of the schemas of `genview.tables`.
        file: what takes the row groups.
    """

    def __init__(self, path: str | Path, schema: pa.Schema, file: pq.ParquetWriter):
        self.path, self.schema = path, schema
        self.rows = 0
        """Rows that were given so far."""
        self._file = file
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table | Mapping[str, Sequence[Any]]) -> None:
        """Add rows, after casting them to the schema.

        Args:
            table: columns by name, or an Arrow table; column order does not matter.

        Raises:
            GenviewError: a column is missing or unknown, or a value does not fit its type or is null where it may not
                be.
        """
        piece = self._fitting(table)
        self.rows += len(piece)
        self._waiting.append(piece)
        self._flush(ROW_GROUP)

    def finish(self) -> None:
        """Write what is left; a table without rows has a row group without rows."""
        self._flush(1)
        if not self.rows:
            self._file.write_table(self.schema.empty_table())

    def _flush(self, least: int) -> None:
        count = sum(map(len, self._waiting))
        if count < least:
            return
        table = pa.concat_tables(self._waiting)
        whole = count if least == 1 else count - count % ROW_GROUP
        self._file.write_table(table.slice(0, whole), row_group_size=ROW_GROUP)
        self._waiting = [table.slice(whole)] if whole < count else []

    def _fitting(self, table: pa.Table | Mapping[str, Sequence[Any]]) -> pa.Table:
        path, schema = self.path, self.schema
        names = table.column_names if isinstance(table, pa.Table) else list(table)
        for field in schema:
            if field.name in MAY_BE_LEFT_OUT and field.name not in names:
                empty = pa.nulls(table.num_rows if isinstance(table, pa.Table) else len(table[names[0]]), field.type)
                table = (
                    table.append_column(field.name, empty)
                    if isinstance(table, pa.Table)
                    else {**table, field.name: empty}
                )
                names = [*names, field.name]
        if set(names) != set(schema.names):
            missing, unknown = set(schema.names) - set(names), set(names) - set(schema.names)
            raise GenviewError(f"{path}: columns missing {sorted(missing)}, unknown {sorted(unknown)}")
        plain = pa.schema([pa.field(field.name, field.type, field.nullable, field.metadata) for field in schema])
        try:
            if isinstance(table, pa.Table):
                table = table.select(schema.names).cast(plain)
            else:
                table = pa.table([_column(table[field.name], field.type) for field in plain], schema=plain)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as error:
            raise GenviewError(f"{path}: {error}") from error
        for field in schema:
            if not field.nullable and table.column(field.name).null_count:
                row = self.rows + table.column(field.name).is_null().to_pylist().index(True)
                raise GenviewError(f"{path}: row {row}: column {field.name!r} may not be empty")
        return table


@contextlib.contextmanager
def writing(schema: pa.Schema, path: str | Path, **metadata: str) -> Iterator[Writer]:
    """Write a table piece by piece, complete or not at all, in memory for a row group alone.

    Args:
        schema: one of the schemas of `genview.tables`.
        path: the Parquet file.
        metadata: stage, study, digests; the package version is added.
    """
    stamp = json.dumps({"version": __version__, **metadata}, sort_keys=True)
    # Dictionaries serve repeated texts; for numbers that never repeat (embeddings) they cost a quarter more.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    stamped = schema.with_metadata({METADATA_KEY: stamp.encode()})
    with (
        atomic.writing(path) as partial,
        pq.ParquetWriter(partial, stamped, compression="zstd", use_dictionary=texts) as file,
    ):
        writer = Writer(path, schema, file)
        yield writer
        writer.finish()


def write(table: pa.Table | Mapping[str, Sequence[Any]], schema: pa.Schema, path: str | Path, **metadata: str) -> None:
    """Write a whole table, complete or not at all, after casting it to its schema (`Writer.write`)."""
    with writing(schema, path, **metadata) as writer:
        writer.write(table)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """An Arrow column; unlike Arrow's own conversion it does not cut fractions off to make whole numbers."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    if pa.types.is_integer(kind):
        column = pa.array(values)
        return column.cast(kind) if pa.types.is_floating(column.type) else pa.array(values, kind)
    return pa.array(values, kind)


@contextlib.contextmanager
def _opened(path: str | Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """A file whose columns are those of the schema; of its rows nothing is read."""
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise GenviewError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise GenviewError(f"{path}: not a Parquet file: {error}") from error
    with file:
        found = {field.name: field.type for field in file.schema_arrow}
        expected = {field.name: field.type for field in schema}
        if found != expected:
            different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise GenviewError(f"{path}: columns {different} are not as documented; made by another version?")
        yield file


def read(
    path: str | Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, Any]] | None = None,
) -> pa.Table:
    """Read a table (or some of its columns, or the rows that pass Arrow's filters) and check it against its schema.

    Raises:
        GenviewError: the file is missing, no Parquet, or its columns are not those of the schema.
    """
    with _opened(path, schema) as file:
        if filters is None:
            return file.read(columns=list(columns) if columns else None)
    return pq.read_table(path, columns=list(columns) if columns else None, filters=list(filters), partitioning=None)


def in_pieces(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of some tables, in order, in pieces of ``ROW_GROUP`` rows; the last is shorter, none is empty."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        while count >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROW_GROUP)
            waiting, count = [whole.slice(ROW_GROUP)], count - ROW_GROUP
    if count:
        yield pa.concat_tables(waiting)


def batches(paths: str | Path | Sequence[str | Path], schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a table, or of the shards of one, in pieces as those of `in_pieces`; one is in memory at a time.

    Raises:
        GenviewError: as `read`.
    """
    return in_pieces(_row_groups([paths] if isinstance(paths, (str, Path)) else paths, schema, columns))


def _row_groups(paths: Sequence[str | Path], schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    for path in paths:
        with _opened(path, schema) as file:
            # One by one: a reader of all row groups keeps the bytes of those that it is done with.
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=list(columns), use_threads=False)


def read_rows(path: str | Path, schema: pa.Schema, first: int, end: int, columns: Sequence[str]) -> pa.Table:
    """Some neighbouring rows of a table, those from ``first`` up to ``end`` (not included); no others are decoded.

    Raises:
        GenviewError: as `read`.
    """
    with _opened(path, schema) as file:
        groups, start, skipped = [], 0, 0
        for number in range(file.metadata.num_row_groups):
            stop = start + file.metadata.row_group(number).num_rows
            if start < end and stop > first:
                groups.append(number)
            elif stop <= first:
                skipped = stop
            start = stop
        found = file.read_row_groups(groups, columns=list(columns))
    return found.slice(first - skipped, max(end - first, 0))


def take(path: str | Path, schema: pa.Schema, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Some rows by their numbers, int64 [n] in any order; of the others one row group is in memory at a time.

    Raises:
        GenviewError: as `read`.
    """
    order = np.argsort(rows, kind="stable")
    ascending, start = rows[order], 0
    parts = [schema.empty_table().select(columns)]
    for piece in batches(path, schema, columns):
        inside = ascending[np.searchsorted(ascending, start) : np.searchsorted(ascending, start + len(piece))]
        parts.append(piece.take(inside - start))
        start += len(piece)
    return pa.concat_tables(part.replace_schema_metadata() for part in parts).take(np.argsort(order, kind="stable"))


def with_keys(path: str | Path, schema: pa.Schema, keys: pa.Array, columns: Sequence[str]) -> pa.Table:
    """The rows of some keys, in the table's order; of the others one row group is in memory at a time.

    Raises:
        GenviewError: as `read`.
    """
    parts = [schema.empty_table().select(columns)]
    parts += [piece.filter(pc.is_in(piece["key"], value_set=keys)) for piece in batches(path, schema, columns)]
    return pa.concat_tables(part.replace_schema_metadata() for part in parts)


def metadata(path: str | Path) -> dict[str, str]:
    """The stamp of a table: version, stage, study, digests.

    Raises:
        GenviewError: the file is not one of our tables.
    """
    try:
        stamp = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    except (pa.ArrowInvalid, OSError) as error:
        raise GenviewError(f"{path}: not a Parquet file: {error}") from error
    if stamp is None:
        raise GenviewError(f"{path}: has no genview metadata; it was not written by this package")
    return json.loads(stamp)


MAY_DIFFER = frozenset({"shard", "code", "version"})
"""In the stamps of shards of one table. Whether a shard stands under today's code is the workflow's to say, which makes
it anew or holds an acceptance (`genview.made`): of accepted shards those that were added later have other code."""


def require_alike(paths: Sequence[str | Path]) -> None:
    """Check that the same parameters made all shards of a table.

    Raises:
        GenviewError: shards disagree in study or parameters.
    """
    stamps = {str(path): metadata(path) for path in paths}
    first_path, first = next(iter(stamps.items()))
    for path, stamp in stamps.items():
        different = sorted(
            name
            for name in first.keys() | stamp.keys()
            if name not in MAY_DIFFER and first.get(name) != stamp.get(name)
        )
        if different:
            raise GenviewError(
                f"{path} and {first_path} were not made alike ({', '.join(different)} differ); remake one"
            )


def read_shards(paths: Sequence[str | Path], schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read shards of one table, in order, after checking that the same parameters made them all.

    Raises:
        GenviewError: as `require_alike`.
    """
    require_alike(paths)
    return pa.concat_tables([read(path, schema, columns) for path in paths])
