"""Ingestion: from a collection of images to the manifest, every item either kept or listed with its reason."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import atomic, tables
from genview.config.dataset import Dataset
from genview.data import (
    check,
    duplicates,
    manifest,
    source_folder,
    source_memory,
    source_table,
    source_webdataset,
    tars,
)
from genview.data.listing import ADVICE, FAILURES, Listing, rejected_table, shown
from genview.data.reader import data_root
from genview.errors import GenviewError

log = logging.getLogger(__name__)

ENOUGH = 1000
"""Once so many images have failed, and more than the allowed share, the others are not opened."""

Refusal = tuple[str | None, str, str, str]


def run(
    dataset: Dataset,
    *,
    seed: int,
    manifest: str | Path,
    rejected: str | Path,
    images: str | Path,
    stamp: Mapping[str, str],
    failures: str | Path | None = None,
) -> None:
    """Ingest a collection.

    Args:
        dataset: where the images come from, and what is refused.
        seed: seed of drawn scenes.
        manifest: Parquet file to write, ``tables.MANIFEST``.
        rejected: Parquet file to write, ``tables.REJECTED``.
        images: tar to write; empty unless the source's images are not files of their own.
        stamp: metadata of both tables.
        failures: CSV file to write with all refusals if there are too many.

    Raises:
        GenviewError: nothing is there or nothing is good, keys are unusable or equal, or too many images are bad.
    """
    items, refusals = collect(dataset, seed, Path(images))
    total = len(items) + len(refusals)
    if dataset.exclude:
        items, left_out = _exclude(items, dataset.exclude)
        refusals += left_out
        total -= len(left_out)
    rows, refusals = _open(items, data_root(dataset, manifest), dataset, refusals, total, failures)
    rows, repeated = _drop_duplicates(rows, dataset)
    refusals += repeated
    _write(rows, refusals, dataset.shards, manifest, rejected, stamp)
    counts = {kind: sum(row[3] == kind for row in refusals) for kind in dict.fromkeys(row[3] for row in refusals)}
    log.info("%d images kept, %d with captions; refused: %s", len(rows), _captions(rows), counts or "none")


def collect(dataset: Dataset, seed: int, images: Path) -> tuple[pa.Table, list[Refusal]]:
    """List a source's items, before any is opened, and write ``images``.

    Raises:
        GenviewError: nothing is there, or keys are unusable or equal.
    """
    listing = Listing(dataset.count)
    if dataset.source in ("scenes", "digits", "huggingface"):
        source_memory.collect(dataset, seed, images, listing)
    else:
        source = {"folder": source_folder, "table": source_table, "webdataset": source_webdataset}[dataset.source]
        source.collect(dataset, listing)
        with tars.writing(images):
            pass
    items = listing.table(ADVICE[dataset.source])
    if not len(items) and not listing.rejected:
        raise GenviewError(f"{dataset.path}: holds no images")
    return items, listing.rejected


def excluded(path: str) -> list[str]:
    """The keys that a file lists, one a line or in a column ``key``.

    Raises:
        GenviewError: the file cannot be read, or is not UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise GenviewError(f"{path}: cannot be read: {error.strerror} (dataset.exclude)") from error
    except UnicodeDecodeError as error:
        raise GenviewError(f"{path}: not UTF-8 (dataset.exclude)") from error
    lines = list(csv.reader(text.splitlines()))
    header = lines[0] if lines else []
    column = header.index("key") if "key" in header else None
    if column is None:
        return [line for line in text.splitlines() if line]
    return [line[column] for line in lines[1:] if len(line) > column]


def _exclude(items: pa.Table, path: str) -> tuple[pa.Table, list[Refusal]]:
    """Items without those whose keys a file lists, and the refusals."""
    wanted = excluded(path)
    listed = pc.is_in(items["key"], value_set=pa.array(wanted, pa.string()))
    out = items.filter(listed)
    unknown = len(set(wanted)) - len(out)
    if unknown:
        log.warning("%s: %d of its keys are not among the images", path, unknown)
    name = Path(path).name
    rows = zip(out["key"].to_pylist(), out["source"].to_pylist())
    return items.filter(pc.invert(listed)), [(key, source, f"listed in {name}", "leaked") for key, source in rows]


def _open(
    items: pa.Table,
    root: Path,
    dataset: Dataset,
    refusals: list[Refusal],
    total: int,
    failures: str | Path | None,
) -> tuple[pa.Table, list[Refusal]]:
    """Rows of the good images and the refusals, old and new; stops if too many images are bad."""
    refusals = list(refusals)
    failed = sum(row[3] in FAILURES for row in refusals)
    allowed = dataset.maximum_rejects * total
    batches, position = [], 0
    for checked in check.check(items, root, dataset):
        here = items.slice(position, len(checked))
        position += len(checked)
        bad = pc.is_valid(checked["reason"])
        named = here.select(["key", "source"]).filter(bad).to_pydict()
        told = checked.filter(bad).to_pydict()
        refusals += zip(named["key"], named["source"], told["reason"], told["kind"])
        failed += len(told["reason"])
        batches.append(checked)
        if failed > max(allowed, ENOUGH):
            break
    if failed > allowed:
        raise GenviewError(_too_many(refusals, failed, position, total, dataset.maximum_rejects, failures))
    checked = pa.Table.from_batches(batches, check.CHECKED)
    rows = items.drop_columns(["length"])
    # A file that the table writes otherwise than the disk is listed as the disk has it.
    found = pc.coalesce(checked["path"], rows["path"])
    rows = rows.set_column(rows.schema.get_field_index("path"), "path", found)
    for name in ("length", "width", "height", "sha256", "perceptual_hash"):
        rows = rows.append_column(name, checked[name])
    rows = rows.filter(pc.is_null(checked["reason"]))
    if not len(rows):
        raise GenviewError(
            f"no image is left of {total}:" + shown([f"{row[1]}: {row[2]}" for row in refusals], len(refusals))
        )
    return rows, refusals


def _too_many(
    refusals: list[Refusal], failed: int, opened: int, total: int, share: float, failures: str | Path | None
) -> str:
    bad = [row for row in refusals if row[3] in FAILURES]
    seen = "" if opened >= total - (len(refusals) - failed) else f" (stopped after opening {opened})"
    message = (
        f"{failed} of {total} images are bad{seen}, more than the share of {share:g} that dataset.maximum_rejects "
        "allows; mend or remove them, or allow more:" + shown([f"{row[1]}: {row[2]}" for row in bad])
    )
    if failures:
        with atomic.writing(failures) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(tables.REJECTED.names)
            writer.writerows(zip(*rejected_table(bad).to_pydict().values()))
        message += f"\nThe whole list: {failures}"
    return message


def _drop_duplicates(rows: pa.Table, dataset: Dataset) -> tuple[pa.Table, list[Refusal]]:
    """Rows without duplicates, and the refusals; duplicates that are kept are counted in the log."""
    refusals: list[Refusal] = []
    standing = duplicates.same_bytes(rows["sha256"], rows["key"])
    if dataset.drop_duplicates:
        rows, refusals = _keep(rows, standing, "has the same bytes as {}")
    else:
        _, same = _keep(rows, standing, "has the same bytes as {}")
        if same:
            lines = shown([f"{row[1]}: {row[2]}" for row in same])
            log.warning(
                "%d images have the bytes of another and are kept (dataset.drop_duplicates):%s", len(same), lines
            )
    if dataset.perceptual_duplicates is not None:
        rows = rows.sort_by("key")
        standing = duplicates.near(rows["perceptual_hash"].to_numpy(), dataset.perceptual_duplicates)
        text = f"looks like {{}} (perceptual hashes differ in at most {dataset.perceptual_duplicates} bits)"
        rows, near = _keep(rows, standing, text)
        refusals += near
    return rows, refusals


def _keep(rows: pa.Table, standing: np.ndarray, reason: str) -> tuple[pa.Table, list[Refusal]]:
    repeated = np.flatnonzero(standing != np.arange(len(standing)))
    dropped = rows.select(["key", "source"]).take(repeated).to_pydict()
    kept = rows["key"].take(pa.array(standing[repeated])).to_pylist()
    refusals = [
        (key, source, reason.format(repr(other)), "duplicate")
        for key, source, other in zip(dropped["key"], dropped["source"], kept)
    ]
    mask = np.ones(len(rows), bool)
    mask[repeated] = False
    return rows.filter(pa.array(mask)), refusals


def _write(
    rows: pa.Table,
    refusals: list[Refusal],
    shards: int,
    manifest_path: str | Path,
    rejected: str | Path,
    stamp: Mapping[str, str],
) -> None:
    rows = manifest.assemble(rows.drop_columns(["source", "perceptual_hash"]), shards)
    tables.write(rows, tables.MANIFEST, manifest_path, shards=str(shards), **stamp)
    tables.write(rejected_table(refusals), tables.REJECTED, rejected, **stamp)


def _captions(rows: pa.Table) -> int:
    return len(rows) - rows["caption"].null_count
