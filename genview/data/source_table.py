"""A CSV, TSV or Parquet table of images with a header: ``image`` and, if wanted, a caption and a label column."""

import logging
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from genview.config.dataset import Dataset
from genview.data import keys
from genview.data.listing import Listing, shown
from genview.errors import GenviewError

log = logging.getLogger(__name__)

IMAGE = "image"


def text_batches(path: str | Path, wanted: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a CSV, TSV or Parquet table, in batches, every value as text; an empty field is an empty string.

    Quoted fields may hold commas, quotes and newlines. Text such as ``NA`` or ``None`` stays text.

    Args:
        path: the file; ``.tsv`` is split at tabs, ``.parquet`` read as Parquet, all else split at commas.
        wanted: columns to read, those that the table has; default: all.

    Raises:
        GenviewError: the file is missing, not UTF-8, or not a table.
    """
    path = Path(path)
    if not path.is_file():
        raise GenviewError(f"{path}: no such table")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            yield from _parquet(path, wanted)
        else:
            yield from _delimited(path, wanted)
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError) as error:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            raise GenviewError(f"{path}: not UTF-8; convert it, for example: iconv -f latin1 -t utf-8") from error
        raise GenviewError(f"{path}: not a well-formed table: {text}") from error


def _delimited(path: Path, wanted: list[str] | None) -> Iterator[pa.RecordBatch]:
    parsing = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True)
    names = columns_of(path)
    chosen = [name for name in names if wanted is None or name in wanted]
    converting = csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=chosen,
        strings_can_be_null=False,
        check_utf8=True,
    )
    with csv.open_csv(path, csv.ReadOptions(use_threads=False), parsing, converting) as reader:
        yield from reader


def _parquet(path: Path, wanted: list[str] | None) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        chosen = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
        for batch in file.iter_batches(batch_size=65_536, columns=chosen):
            columns = [column.cast(pa.string()).fill_null("") for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def columns_of(path: str | Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        GenviewError: the file is missing, empty or no table, or has two columns of one name.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            names = pq.read_schema(path).names
        else:
            parsing = csv.ParseOptions(
                delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
            )
            with csv.open_csv(path, csv.ReadOptions(use_threads=False), parsing) as reader:
                names = reader.schema.names
    except FileNotFoundError as error:
        raise GenviewError(f"{path}: no such table") from error
    except (pa.ArrowInvalid, OSError) as error:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            raise GenviewError(f"{path}: not UTF-8; convert it, for example: iconv -f latin1 -t utf-8") from error
        raise GenviewError(f"{path}: not a table with a header: {text}") from error
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise GenviewError(f"{path}: two columns are named {', '.join(repeated)}")
    return names


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


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the rows of ``dataset.path``; paths in ``image`` are relative to ``image_root``.

    An absolute path is accepted if it lies under the root. A row is named by its number after the header, from 1.

    Raises:
        GenviewError: the table is missing or malformed, has no rows, or a foreground share is no number in [0, 1].
    """
    share_column = dataset.foreground_share_column
    found = require_columns(dataset.path, [IMAGE] + ([share_column] if share_column else []))
    for name, option in [(dataset.caption_column, "caption_column"), (dataset.label_column, "label_column")]:
        if name not in found:
            if option in dataset.model_fields_set:
                require_columns(dataset.path, [name])
            log.info("%s: no column %r: the images have no %s", dataset.path, name, option.removesuffix("_column"))
    wanted = [name for name in (IMAGE, dataset.caption_column, dataset.label_column, share_column) if name]
    root = os.path.abspath(dataset.image_root or Path(dataset.path).parent)
    bad_shares: list[str] = []
    row = 0
    for batch in text_batches(dataset.path, wanted):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        nothing = [None] * batch.num_rows
        for image, caption, label, share in zip(
            columns[IMAGE],
            columns.get(dataset.caption_column, nothing),
            columns.get(dataset.label_column, nothing),
            columns.get(share_column, nothing),
        ):
            if listing.full:
                break
            row += 1
            source = f"row {row}: {image}"
            if not image.strip():
                listing.reject(None, source, f"the column {IMAGE!r} is empty")
                continue
            path = _relative(image, root)
            try:
                number = float(share) if share else None
                if number is not None and not 0 <= number <= 1:
                    raise ValueError
            except ValueError:
                bad_shares.append(f"row {row}: {share!r}")
                continue
            listing.add(keys.key_of(path), path, source, caption=caption, label=label, foreground_share=number)
    if bad_shares:
        raise GenviewError(
            f"{dataset.path}: {len(bad_shares)} values of {share_column!r} are no numbers in [0, 1]; leave a field "
            "empty where the share is not known:" + shown(bad_shares)
        )
    if not row:
        raise GenviewError(f"{dataset.path}: the table has a header but no rows")


def _relative(image: str, root: str) -> str:
    """An image's path relative to the root, in one spelling; ``..`` and NUL are left for the key's check to refuse."""
    if "\0" in image or ".." in image.split("/"):
        return image
    if image.startswith(root.rstrip("/") + "/"):
        image = image[len(root.rstrip("/")) + 1 :]
    return posixpath.normpath(image)
