"""One table of rows with a header, in whatever form people have it: delimited text, Parquet or Arrow.

Text may be separated by commas, tabs, semicolons or bars, end its lines in any way, be compressed (gzip, bzip2, xz,
zstd) and be UTF-8 or UTF-16. The form is told from the content, the separator from the header; the file's name plays no
part but where the header fits several separators. Quotes are those of RFC 4180; one that is never closed is an error
with its row: else it would swallow the rows that follow.
"""

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from genview.config.dataset import SEPARATORS
from genview.data import values
from genview.errors import GenviewError

ROWS = 16_384
"""Rows of a batch."""

LONGEST_FIELD = 16 << 20
"""Characters of a field: what is longer is a quote that was never closed."""

_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"SQLite": "a SQLite database; export the table as CSV",
    b"FEA1": "a Feather file of version 1; write it as Parquet",
}
_TABS = (".tsv", ".tab")

csv.field_size_limit(LONGEST_FIELD)

Columns = dict[str, list[Any]]


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed where they are compressed."""
    with open(path, "rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
    if opener:
        stream = opener(path, "rb")
    elif head.startswith(_ZSTD):
        stream = pa.input_stream(str(path), compression="zstd")
    else:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    with stream:
        yield stream


class Table:
    """A table that can be read from its beginning any number of times.

    Attributes:
        path: the file.
        form: ``text``, ``parquet``, ``arrow`` (a file) or ``stream`` (Arrow's stream).
        names: of the columns.
        separator: of a text file, else None.
        schema: Arrow's, of the other forms.
    """

    def __init__(self, path: str | Path, separator: str | None = None, wanted: str | None = None):
        """Open a table and read its header.

        Args:
            path: the file.
            separator: name of the separator of a text file; None: told from the header.
            wanted: name of a column that helps to tell it.

        Raises:
            GenviewError: the file is missing, empty, no table, or has two columns of one name.
        """
        self.path = Path(path)
        self.separator: str | None = None
        self.schema: pa.Schema | None = None
        if not self.path.is_file():
            raise GenviewError(f"{path}: no such table")
        with self._explained("not a table with a header"):
            self.form = self._form()
            if self.form == "text":
                header = self._first_line()
                self.separator = separator or self._separator_of(header, wanted)
                self.names = next(self._records(), [])
            else:
                with self._batches(None) as batches:
                    self.schema = batches[0]
                self.names = self.schema.names
        if not self.names:
            raise GenviewError(f"{path}: not a table with a header: the file is empty")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise GenviewError(f"{path}: two columns are named {', '.join(repeated)}")

    @property
    def told(self) -> str:
        """The form in words."""
        return f"separated by {self.separator}s" if self.separator else "a table of Arrow's"

    def columns(self, wanted: Sequence[str] | None = None) -> Iterator[Columns]:
        """Values of columns, in batches: texts of a text file, whatever Arrow holds in the others.

        Args:
            wanted: names of columns, those that the table has; default: all.

        Raises:
            GenviewError: the table is damaged, not UTF-8, or its rows are not as long as the header; names the row.
        """
        chosen = [name for name in self.names if wanted is None or name in wanted]
        with self._explained("not a well-formed table"):
            if self.form == "text":
                yield from self._text_columns(chosen)
            else:
                with self._batches(chosen) as (_, batches):
                    for batch in batches:
                        yield {name: _python(batch.column(batch.schema.get_field_index(name))) for name in chosen}

    def holds_images(self, name: str) -> bool:
        """Whether a column holds the images themselves: bytes, or a structure with bytes."""
        return self.schema is not None and is_image_type(self.schema.field(name).type)

    # Text

    def _text_columns(self, chosen: list[str]) -> Iterator[Columns]:
        places = [self.names.index(name) for name in chosen]
        rows = enumerate(itertools.islice(self._records(), 1, None), 1)
        while part := list(itertools.islice(rows, ROWS)):
            for number, row in part:
                if len(row) != len(self.names):
                    raise GenviewError(
                        f"{self.path}: row {number} has {len(row)} fields, the header {len(self.names)}: a text that "
                        f"holds a {self.separator} must stand in quotes (dataset.separator is {self.separator})"
                    )
            yield {name: [row[place] for _, row in part] for name, place in zip(chosen, places)}

    def _records(self) -> Iterator[list[str]]:
        """Header and rows of a text file; empty lines are left out."""
        character = next(sign for sign, name in SEPARATORS.items() if name == self.separator)
        with self._lines() as lines:
            reader = csv.reader(lines, delimiter=character, strict=True)
            row, line = -1, 0
            while True:
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise GenviewError(self._quote_problem(error, row + 1, line + 1)) from None
                line = reader.line_num
                if record:
                    row += 1
                    yield record

    def _quote_problem(self, error: csv.Error, row: int, line: int) -> str:
        where = f"row {row} (line {line})" if row else f"the header (line {line})"
        return (
            f"{self.path}: {where}: a quote that is opened is not closed before the field ends ({error}); double the "
            'quotes within a text ("a ""big"" dog"), or remove the single one'
        )

    @contextlib.contextmanager
    def _lines(self) -> Iterator[Iterator[str]]:
        with _unpacked(self.path) as file:
            file = io.BufferedReader(file) if not hasattr(file, "peek") else file
            head = file.peek(2)[:2]
            encoding = "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            with io.TextIOWrapper(file, encoding=encoding, newline="") as lines:
                yield lines

    def _first_line(self) -> str:
        with self._lines() as lines:
            for line in lines:
                if line.strip():
                    return line.rstrip("\r\n")
        return ""

    def _separator_of(self, header: str, wanted: str | None) -> str:
        """The first separator under which the header has a column of images; else the one with the most columns."""
        usual = "tab" if self._suffix() in _TABS else "comma"
        order = [usual, *(name for name in ("tab", "comma", "semicolon", "bar") if name != usual)]
        signs = {name: sign for sign, name in SEPARATORS.items()}
        fields = {}
        for name in order:
            try:
                fields[name] = next(csv.reader([header], delimiter=signs[name]), [])
            except csv.Error:
                fields[name] = []
        names = (wanted,) if wanted else values.IMAGE_COLUMNS
        for name in order:
            if set(fields[name]) & set(names):
                return name
        return max(order, key=lambda name: len(fields[name]))

    def _suffix(self) -> str:
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        return next((suffix for suffix in reversed(suffixes) if suffix not in (".gz", ".bz2", ".xz", ".zst")), "")

    # Arrow

    def _form(self) -> str:
        with _unpacked(self.path) as file:
            head = file.read(8)
        for magic, what in _OTHERS.items():
            if head.startswith(magic):
                raise GenviewError(f"{self.path}: is {what}")
        for magic, form in ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "stream")):
            if head.startswith(magic):
                with open(self.path, "rb") as file:
                    if not file.read(8).startswith(magic):
                        raise GenviewError(f"{self.path}: a compressed {form} file; unpack it: it is compressed within")
                return form
        if self._suffix() in (".parquet", ".pq", ".arrow", ".feather"):
            raise GenviewError(f"{self.path}: not a {self._suffix()[1:]} file, or damaged at its beginning")
        return "text"

    @contextlib.contextmanager
    def _batches(self, chosen: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        if self.form == "parquet":
            with pq.ParquetFile(self.path) as file:
                yield file.schema_arrow, file.iter_batches(batch_size=ROWS, columns=chosen)
        elif self.form == "arrow":
            with pa.memory_map(str(self.path)) as source, ipc.open_file(source) as file:
                yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
        else:
            with pa.memory_map(str(self.path)) as source, ipc.open_stream(source) as stream:
                yield stream.schema, iter(stream)

    @contextlib.contextmanager
    def _explained(self, otherwise: str) -> Iterator[None]:
        try:
            yield
        except UnicodeError:
            raise GenviewError(f"{self.path}: not UTF-8; convert it, for example: iconv -f latin1 -t utf-8") from None
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise GenviewError(f"{self.path}: cut short or damaged: {error}") from error
        except (pa.ArrowException, OSError) as error:
            raise GenviewError(f"{self.path}: {otherwise}: {error}") from error


def is_image_type(kind: pa.DataType) -> bool:
    """Bytes, or a structure with a field ``bytes``, as Hugging Face's ``Image`` is stored."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _python(column: pa.Array) -> list[Any]:
    """Values of a column; texts that are not UTF-8 stay bytes, for whoever reads the row."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pa.binary()).to_pylist()
