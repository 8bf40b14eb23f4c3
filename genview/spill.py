"""Tables of any length in bounded memory: rows that lie on the disk, and sorts and joins over all of them (DuckDB).

What is put aside lies in a folder beside the artifact that is being made, and goes when that is done or given up.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genview import atomic
from genview.errors import GenviewError
from genview.parquet import ROW_GROUP
from genview.words import listed

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""What a database may hold in memory; Arrow's own buffers come on top."""

THREADS = 4
"""Each wants a part of that memory."""

SUFFIX = ".aside"
SHOWN = 20
"""Keys that `Some` names."""

ROW = pa.field("row", pa.int64())
"""The column that `numbered` adds."""

_PIECE = 16_384
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class Rows:
    """Rows in the order in which they were put there; once they are read, no more can be added.

    Args:
        schema: their columns.
        path: file that holds them; None: they stay in memory.
    """

    def __init__(self, schema: pa.Schema, path: Path | None = None):
        self.schema, self.path = schema, path
        self._count = 0
        self._single: list[tuple[Any, ...]] = []
        self._memory: list[pa.Table] = []
        self._file = pa.ipc.new_stream(str(path), schema, options=_COMPRESSED) if path else None

    def __len__(self) -> int:
        return self._count

    def append(self, row: tuple[Any, ...]) -> None:
        """Add a row, values in the order of the columns."""
        self._single.append(row)
        self._count += 1
        if len(self._single) >= _PIECE:
            self._flush()

    def extend(self, table: pa.Table) -> None:
        """Add the rows of a table with the same columns."""
        self._flush()
        self._count += len(table)
        self._put(table)

    def _put(self, table: pa.Table) -> None:
        if self._file:
            self._file.write_table(table)
        elif self.path:
            raise ValueError(f"{self.path} was read; no rows can be added")
        else:
            self._memory.append(table)

    def _flush(self) -> None:
        if self._single:
            columns = [pa.array(column, field.type) for column, field in zip(zip(*self._single), self.schema)]
            self._single = []
            self._put(pa.Table.from_arrays(columns, schema=self.schema))

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows, in order, some at a time; none of them is empty."""
        self._flush()
        if self._file:
            self._file.close()
            self._file = None
        if self.path is None:
            for table in self._memory:
                yield table.select(columns) if columns else table
            return
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                table = pa.Table.from_batches([batch])
                yield table.select(columns) if columns else table


@dataclass(frozen=True)
class Some:
    """Keys of which there may be many: how many, and the first of them."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __str__(self) -> str:
        return listed(self.first, SHOWN, self.count)


class Cursor:
    """Reads rows that are sorted by the whole number in their first column, as far as asked."""

    def __init__(self, pieces: Iterable[pa.Table]):
        self._rows = (row for piece in pieces for row in zip(*(column.to_pylist() for column in piece.columns)))
        self._next = next(self._rows, None)

    def below(self, stop: int) -> Iterator[tuple[Any, ...]]:
        """The next rows whose number is below ``stop``."""
        while self._next is not None and self._next[0] < stop:
            row, self._next = self._next, next(self._rows, None)
            yield row


def numbered(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables with a first column ``row``, int64, that counts through all of them."""
    row = 0
    for piece in pieces:
        yield piece.add_column(0, ROW, pa.array(np.arange(row, row + len(piece))))
        row += len(piece)


class Database:
    """Tables by name, which may be larger than memory."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection"):
        self._connection = connection

    def keep(self, name: str, pieces: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Store the rows of some tables as one."""
        with self._reading(pieces, schema) as cursor:
            cursor.execute(f"CREATE TABLE {name} AS SELECT * FROM pieces").fetchall()

    def make(self, name: str, query: str) -> None:
        """Store what a query gives. A join that is stored before it is sorted needs the memory of one of the two."""
        self.change(f"CREATE TABLE {name} AS {query}")

    def change(self, statement: str) -> None:
        """Change what is stored."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement).fetchall()

    def rows(self, query: str) -> Iterator[pa.Table]:
        """What a query gives, in pieces."""
        with self._connection.cursor() as cursor:
            yield from _pieces(cursor, query)

    def sorted(self, pieces: Iterable[pa.Table], schema: pa.Schema, by: str) -> Iterator[pa.Table]:
        """The rows of some tables in the order of some columns."""
        with self._reading(pieces, schema) as cursor:
            yield from _pieces(cursor, f"SELECT * FROM pieces ORDER BY {by}")

    def number(self, query: str) -> int:
        """The one number that a query gives."""
        with self._connection.cursor() as cursor:
            return int(cursor.execute(query).fetchall()[0][0])

    def some(self, query: str) -> Some:
        """How many keys a query gives, and the first; its last part says in which order."""
        count = self.number(f"SELECT count(*) FROM ({query})")
        if not count:
            return Some()
        with self._connection.cursor() as cursor:
            return Some(count, tuple(key for key, *_ in cursor.execute(f"{query} LIMIT {SHOWN}").fetchall()))

    @contextlib.contextmanager
    def _reading(self, pieces: Iterable[pa.Table], schema: pa.Schema) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A cursor for which some tables are the table ``pieces``, to be read once."""
        batches = (batch for piece in pieces for batch in piece.to_batches())
        with self._connection.cursor() as cursor:
            cursor.register("pieces", pa.RecordBatchReader.from_batches(schema, batches))
            yield cursor


def _pieces(cursor: "duckdb.DuckDBPyConnection", query: str) -> Iterator[pa.Table]:
    for batch in cursor.sql(query).to_arrow_reader(ROW_GROUP):
        if len(batch):
            yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def folder(beside: str | Path) -> Iterator[Path]:
    """An empty folder for what is put aside while an artifact is made; it is removed in the end.

    Raises:
        GenviewError: the disk is full, or may not be written.
    """
    place = Path(f"{beside}{SUFFIX}")
    shutil.rmtree(place, ignore_errors=True)
    try:
        with atomic.explained(place):
            place.mkdir(parents=True)
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def database(place: Path) -> Iterator[Database]:
    """A database in a folder. Its threads end with it: processes may be forked before and after.

    Raises:
        GenviewError: a sort or a join does not fit into its memory.
    """
    import duckdb  # takes a quarter of a second; few jobs need it

    settings: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": min(len(os.sched_getaffinity(0)), THREADS),
        "temp_directory": str(place / "sorted"),
        "preserve_insertion_order": False,  # every query whose order matters says so
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    file = place / "database"
    file.unlink(missing_ok=True)
    connection = duckdb.connect(str(file), config=settings)
    try:
        yield Database(connection)
    except duckdb.OutOfMemoryException as error:
        raise GenviewError(f"{place}: there are too many rows to sort or join within {MEMORY}: {error}") from error
    finally:
        connection.close()
        file.unlink(missing_ok=True)
