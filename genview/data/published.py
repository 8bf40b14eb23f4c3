"""The published pipeline's files, read in place of a stage and written for whoever works with that pipeline.

========================  ======================================================
``fg_ratios.csv``         image, ratio, prompt
``noise_level.csv``       image, prompt, noise_level
``guidance_scale.csv``    image, prompt, guidance_scale [, explanation]
``infos.csv``             image, prompt, noise_level, guidance_scale
========================  ======================================================

Columns are found by name, rows by image: the key of an image is its path without the extension, relative to the root.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from genview import atomic, parquet, tables
from genview.data import keys, names, source_table
from genview.data.aligned import aligned
from genview.data.listing import SHOWN, shown
from genview.errors import GenviewError

Kind = Literal["fg_ratios", "noise_level", "guidance_scale", "infos"]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:  # Python would read 1_0 as 10
        raise ValueError("not a finite number")
    return value


def _ratio(text: str) -> float:
    value = _finite(text)
    if not 0 <= value <= 1:
        raise ValueError("outside [0, 1]")
    return value


def _noise_level(text: str) -> int:
    value = _finite(text)  # the published merge turns 100 into 100.0
    if value != int(value) or not 0 <= value <= 999:
        raise ValueError("no whole number in 0..999")
    return int(value)


def _guidance_scale(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None  # the published scorer writes the model's raw answer, or nothing, where it could not score
    if not math.isfinite(value) or not 1 <= value <= 50:
        raise ValueError("outside [1, 50]")
    return value


class _Column(NamedTuple):
    type: pa.DataType
    parse: Callable[[str], float | int | None]
    may_be_empty: bool = False


_RATIO = _Column(pa.float32(), _ratio)
_LEVEL = _Column(pa.int32(), _noise_level)
_SCALE = _Column(pa.float32(), _guidance_scale, may_be_empty=True)
_FORMS: dict[str, dict[str, _Column]] = {
    "fg_ratios": {"ratio": _RATIO},
    "noise_level": {"noise_level": _LEVEL},
    "guidance_scale": {"guidance_scale": _SCALE},
    # The published merge is an outer join: rows of one side only have an empty cell.
    "infos": {"noise_level": _LEVEL._replace(may_be_empty=True), "guidance_scale": _SCALE},
}
_ORDER = {
    "fg_ratios": ("image", "ratio", "prompt"),
    "noise_level": ("image", "prompt", "noise_level"),
    "guidance_scale": ("image", "prompt", "guidance_scale"),
    "infos": ("image", "prompt", "noise_level", "guidance_scale"),
}


def read_csv(path: str | Path, kind: Kind, *, image_root: str | Path | None = None) -> pa.Table:
    """Read one of the published files.

    Args:
        path: CSV (or TSV, Parquet) with the columns of its kind; others are ignored.
        kind: which file.
        image_root: absolute paths in ``image`` are taken relative to this folder.

    Returns:
        Columns key (string), prompt (string, null where empty or missing) and the kind's values: ratio (float32 in
        [0, 1]), noise_level (int32 in 0..999), guidance_scale (float32 in [1, 50]). A guidance scale is null where
        the scorer left something else than a number; so is what the merge left empty in ``infos``.

    Raises:
        GenviewError: a column is missing, a number is missing, NaN, no number or out of range, or an image is listed
            twice; names file and rows.
    """
    form = _FORMS[kind]
    source_table.require_columns(path, ["image", *form])
    root = os.path.abspath(image_root) if image_root is not None else None
    batches: list[pa.Table] = []
    problems: list[str] = []
    count = row = 0
    for batch in source_table.text_batches(path, ["image", "prompt", *form]):
        images = batch.column("image").to_pylist()
        columns: dict[str, list] = {"key": [_key(image, root) for image in images]}
        for number, key in enumerate(columns["key"], row + 1):
            wrong = keys.problem(key)
            if wrong:
                count += 1
                problems.append(f"row {number}: the image {key!r} {wrong}")
        for name, column in form.items():
            values = []
            for number, text in enumerate(batch.column(name).to_pylist(), row + 1):
                value = None
                if text.strip() or not column.may_be_empty:
                    try:
                        value = column.parse(text)
                    except (ValueError, OverflowError) as error:
                        count += 1
                        reason = "empty" if not text.strip() else str(error)
                        problems.append(f"row {number}: {name} {text!r}: {reason}")
                values.append(value)
            columns[name] = values
        del problems[SHOWN:]
        row += batch.num_rows
        prompts = batch.column("prompt").to_pylist() if "prompt" in batch.schema.names else [""] * batch.num_rows
        columns["prompt"] = [prompt if prompt.strip() else None for prompt in prompts]
        types = {"key": pa.string(), "prompt": pa.string(), **{name: column.type for name, column in form.items()}}
        batches.append(pa.table({name: pa.array(columns[name], kind_) for name, kind_ in types.items()}))
    if problems:
        raise GenviewError(f"{path}: {count} values cannot be used:" + shown(problems, count))
    if not row:
        raise GenviewError(f"{path}: has a header but no rows")
    table = pa.concat_tables(batches)
    _refuse_repeated(path, table["key"])
    return table


def _key(image: str, root: str | None) -> str:
    if root and image.startswith(root.rstrip("/") + "/"):
        image = image[len(root.rstrip("/")) + 1 :]
    return keys.key_of(names.tidy(image).removeprefix("./"))


def _refuse_repeated(path: str | Path, found: pa.ChunkedArray) -> None:
    counts = pc.value_counts(found)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(repeated):
        lines = []
        for key in repeated.sort()[:SHOWN].to_pylist():
            rows = pc.indices_nonzero(pc.equal(found, key)).to_pylist()
            lines.append(f"{key!r}: rows {', '.join(str(row + 1) for row in rows[:5])}")
        raise GenviewError(
            f"{path}: {len(repeated)} images are listed more than once; keep one row of each:"
            + shown(lines, len(repeated))
        )


def image_names(manifest: pa.Table) -> pa.ChunkedArray:
    """What the published files call each image: its path, or ``<key>.jpg`` where it is a slice of a tar."""
    in_tar = pc.ends_with(manifest["path"], ".tar", ignore_case=True)
    return pc.if_else(in_tar, pc.binary_join_element_wise(manifest["key"], ".jpg", ""), manifest["path"])


def write_csv(path: str | Path, kind: Kind, pieces: Iterable[Mapping[str, Any]]) -> None:
    """Write one of the published files, complete or not at all.

    Args:
        path: the CSV.
        kind: which file.
        pieces: some rows each: ``image``, ``prompt`` and the kind's values, as Arrow columns or lists; null is an
            empty field. Other columns are left out.

    Raises:
        GenviewError: a column is missing.
    """
    types = {"image": pa.string(), "prompt": pa.string(), **{name: at.type for name, at in _FORMS[kind].items()}}
    schema = pa.schema([(name, types[name]) for name in _ORDER[kind]])
    options = csv.WriteOptions(quoting_style="needed", quoting_header="none")
    with atomic.writing(path) as partial, csv.CSVWriter(partial, schema, write_options=options) as file:
        for columns in pieces:
            missing = [name for name in schema.names if name not in columns]
            if missing:
                raise GenviewError(f"{path}: no values for the columns {missing}")
            file.write_table(pa.table({name: columns[name] for name in schema.names}, schema=schema))


def export(
    manifest: str | Path, ratio: str | Path, noise_level: str | Path, guidance_scale: str | Path, folder: str | Path
) -> None:
    """Write a study's conditions as the four published files, one row per image of the manifest.

    Args:
        manifest: ``manifest.parquet``.
        ratio: ``foreground_ratio.parquet``.
        noise_level: ``noise_level.parquet``.
        guidance_scale: ``guidance_scale.parquet``.
        folder: where the four files go.

    Raises:
        GenviewError: a table lacks an image of the manifest.
    """
    sources = (
        (ratio, tables.FOREGROUND_RATIO, "ratio"),
        (noise_level, tables.NOISE_LEVEL, "noise_level"),
        (guidance_scale, tables.GUIDANCE_SCALE, "guidance_scale"),
    )
    for kind in _ORDER:
        path = Path(folder) / f"{kind}.csv"
        with contextlib.ExitStack() as stack:
            found = {}
            for table, schema, name in sources:
                if name in _ORDER[kind]:
                    some = pa.schema([schema.field("key"), schema.field(name)])
                    read = functools.partial(parquet.batches, table, schema, some.names)
                    beside = f"{path}.{name}"
                    beside_manifest = aligned(manifest, read, some, name=str(table), beside=beside)
                    found[name] = stack.enter_context(beside_manifest)
                    if lacking := found[name].missing.count:
                        raise GenviewError(
                            f"{table}: {lacking} images of the manifest are missing: {found[name].missing}"
                        )
            write_csv(path, kind, _rows(manifest, {name: rows.pieces for name, rows in found.items()}))


def _rows(manifest: str | Path, pieces: Mapping[str, Iterator[pa.Table]]) -> Iterator[dict[str, Any]]:
    for rows in parquet.batches(manifest, tables.MANIFEST, ["key", "path", "caption"]):
        values = {name: next(some)[name] for name, some in pieces.items()}
        yield {"image": image_names(rows), "prompt": rows["caption"], **values}
