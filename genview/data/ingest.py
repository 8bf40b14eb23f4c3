"""Ingestion: from a collection of images to the manifest, every item either kept or listed with its reason."""

import csv
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import atomic, parquet, spill, tables
from genview.config.dataset import Dataset
from genview.data import (
    check,
    duplicates,
    keys,
    source_folder,
    source_memory,
    source_table,
    source_webdataset,
    tars,
)
from genview.data.listing import FAILURES, ITEM, SHOWN, Listing, Refusals, shown
from genview.data.reader import data_root
from genview.data.unique import ADVICE, unique
from genview.errors import GenviewError

log = logging.getLogger(__name__)

ENOUGH = 1000
"""Once this many images have failed, and more than the allowed share, the others are not opened."""

ROWS = pa.schema(
    [field for field in tables.MANIFEST if field.name != "shard"]
    + [pa.field("source", pa.string()), pa.field("perceptual_hash", pa.uint64())]
)
"""The images that are good, in the order of the source."""


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
    """Ingest a collection, in memory that does not grow with it.

    Args:
        dataset: where the images come from, and what is refused.
        seed: seed of drawn scenes.
        manifest: Parquet file to write, ``tables.MANIFEST``; what is put aside in the meantime lies beside it.
        rejected: Parquet file to write, ``tables.REJECTED``.
        images: tar to write; empty unless the source's images are not files of their own.
        stamp: metadata of both tables.
        failures: CSV file to write with all refusals if there are too many.

    Raises:
        GenviewError: nothing is there or nothing is good, keys are unusable or equal, or too many images are bad.
    """
    with spill.folder(manifest) as folder:
        listing = collect(dataset, seed, Path(images), folder)
        rows = opened(listing, dataset, data_root(dataset, manifest), folder, failures)
        write(rows, listing.refusals, dataset, manifest, folder, stamp)
        with parquet.writing(tables.REJECTED, rejected, **stamp) as writer:
            for piece in listing.refusals.rows.pieces():
                writer.write(piece)


def collect(dataset: Dataset, seed: int, images: Path, folder: Path) -> Listing:
    """List a source's items, before any is opened, and write ``images``.

    Raises:
        GenviewError: nothing is there, or keys are unusable.
    """
    listing = Listing(dataset.count, folder)
    if dataset.source in ("scenes", "digits", "huggingface"):
        source_memory.collect(dataset, seed, images, listing)
    else:
        source = {"folder": source_folder, "table": source_table, "webdataset": source_webdataset}[dataset.source]
        source.collect(dataset, listing)
        with tars.writing(images):
            pass
    listing.require_keys()
    if not len(listing.rows) and not len(listing.refusals):
        raise GenviewError(f"{dataset.path}: holds no images")
    return listing


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


def opened(
    listing: Listing, dataset: Dataset, root: Path, folder: Path, failures: str | Path | None = None
) -> spill.Rows:
    """Open every listed image once: rows of the good ones; what is refused is added to the listing's refusals.

    Raises:
        GenviewError: a key names two images, none is left, or too many are bad; these are not all opened then.
    """
    items = spill.Rows(ITEM, folder / "unique")
    for piece in unique(listing.rows, folder, ADVICE[dataset.source]):
        items.extend(piece)
    refusals = listing.refusals
    total = len(items) + len(refusals)
    wanted: Callable[[], Iterator[pa.Table]] = items.pieces
    if dataset.exclude:
        leaked = pa.array(excluded(dataset.exclude), pa.string())
        _refuse_listed(items, leaked, dataset.exclude, refusals)
        wanted = functools.partial(_without, items, leaked)
        total -= refusals.counts["leaked"]
    good = spill.Rows(ROWS, folder / "good")
    allowed = dataset.maximum_rejects * total
    done = 0
    for here, checked in check.check(wanted(), len(items) - refusals.counts["leaked"], root, dataset):
        done += len(here)
        bad = pc.is_valid(checked["reason"])
        named, told = (table.filter(bad).to_pydict() for table in (here, checked))
        for row in zip(named["key"], named["source"], told["reason"], told["kind"]):
            refusals.add(*row)
        good.extend(_together(here, checked).filter(pc.is_null(checked["reason"])))
        if refusals.failed > max(allowed, ENOUGH):
            break
    if refusals.failed > allowed:
        raise GenviewError(_too_many(refusals, done, total, dataset.maximum_rejects, failures))
    if not len(good):
        first = [*refusals.first, *refusals.others]
        raise GenviewError(f"no image is left of {total}:" + shown(first, len(refusals)))
    return good


def _refuse_listed(items: spill.Rows, leaked: pa.Array, path: str, refusals: Refusals) -> None:
    """Refuse the items whose keys a file lists."""
    name, found = Path(path).name, 0
    for piece in items.pieces(["key", "source"]):
        out = piece.filter(pc.is_in(piece["key"], value_set=leaked)).to_pydict()
        found += len(out["key"])
        for key, source in zip(out["key"], out["source"]):
            refusals.add(key, source, f"listed in {name}", "leaked")
    unknown = len(pc.unique(leaked)) - found
    if unknown:
        log.warning("%s: %d of its keys are not among the images", path, unknown)


def _without(items: spill.Rows, leaked: pa.Array) -> Iterator[pa.Table]:
    for piece in items.pieces():
        yield piece.filter(pc.invert(pc.is_in(piece["key"], value_set=leaked)))


def _together(items: pa.Table, checked: pa.Table) -> pa.Table:
    """Columns of ``ROWS``: what was listed and what opening told."""
    columns = {name: items[name] for name in ITEM.names} | {name: checked[name] for name in check.OPENED}
    # A file that the table writes otherwise than the disk is listed as the disk has it.
    columns["path"] = pc.coalesce(checked["path"], items["path"])
    return pa.table({name: columns[name] for name in ROWS.names}, schema=ROWS)


def _too_many(refusals: Refusals, done: int, total: int, share: float, failures: str | Path | None) -> str:
    opened_all = total - (len(refusals) - refusals.failed)
    seen = "" if done >= opened_all else f" (stopped after opening {done})"
    message = (
        f"{refusals.failed} of {total} images are bad{seen}, more than the share of {share:g} that "
        "dataset.maximum_rejects allows; mend or remove them, or allow more:" + shown(refusals.first, refusals.failed)
    )
    if failures:
        with atomic.writing(failures) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(tables.REJECTED.names)
            for piece in refusals.rows.pieces():
                bad = piece.filter(pc.is_in(piece["kind"], value_set=pa.array(FAILURES)))
                writer.writerows(zip(*bad.to_pydict().values()))
        message += f"\nThe whole list: {failures}"
    return message


def write(
    rows: spill.Rows,
    refusals: Refusals,
    dataset: Dataset,
    manifest: str | Path,
    folder: Path,
    stamp: Mapping[str, str],
) -> None:
    """Write the manifest: duplicates are refused, the others dealt to shards and sorted.

    Args:
        rows: columns of ``ROWS``, keys unique.
        refusals: duplicates are added.
        dataset: number of shards, and what is done about duplicates.
        manifest: Parquet file to write.
        folder: what does not fit into memory lies there in the meantime.
        stamp: metadata.
    """
    captions = 0
    with spill.database(folder) as base:
        base.keep("rows", _narrow(rows), duplicates.ROWS)
        dropped = _duplicates(base, rows, dataset, folder)
        cuts = keys.Cuts(_ordered(base), len(rows) - len(dropped), dataset.shards)
    # Another database: what the first one took of the disk is free again.
    with spill.database(folder) as base:
        kept = _dealt(rows, dropped, refusals, dataset, cuts)
        with parquet.writing(tables.MANIFEST, manifest, shards=str(dataset.shards), **stamp) as writer:
            for piece in base.sorted(kept, tables.MANIFEST, "shard, key"):
                writer.write(piece)
                captions += len(piece) - piece["caption"].null_count
    log.info("%d images kept, %d with captions; refused: %s", writer.rows, captions, dict(refusals.counts) or "none")


def _narrow(rows: spill.Rows) -> Iterator[pa.Table]:
    """What duplicates and shards are found by: columns of ``duplicates.ROWS``."""
    for piece in spill.numbered(rows.pieces(["key", "sha256", "perceptual_hash"])):
        yield piece.append_column("digest", pa.array(keys.digests(piece["key"]), pa.uint64())).cast(duplicates.ROWS)


def _duplicates(base: spill.Database, rows: spill.Rows, dataset: Dataset, folder: Path) -> spill.Rows:
    """The rows that go, in order, as columns of ``duplicates.DROPPED``; a table ``dropped`` holds them, too."""
    found = spill.Rows(duplicates.DROPPED, folder / "same_bytes")
    for piece in duplicates.same_bytes(base):
        found.extend(piece)
    if not dataset.drop_duplicates:
        _tell_kept(found, rows)
        found = spill.Rows(duplicates.DROPPED)
    base.keep("dropped", found.pieces(), duplicates.DROPPED)
    if dataset.perceptual_duplicates is None:
        return found
    base.keep("alike", [duplicates.look_alike(base, dataset.perceptual_duplicates)], duplicates.DROPPED)
    both = spill.Rows(duplicates.DROPPED, folder / "duplicates")
    for piece in base.rows("SELECT * FROM dropped UNION ALL SELECT * FROM alike ORDER BY row"):
        both.extend(piece.cast(duplicates.DROPPED))
    base.change("INSERT INTO dropped SELECT * FROM alike")
    return both


def _tell_kept(found: spill.Rows, rows: spill.Rows) -> None:
    """Say that images have the bytes of another, and are kept."""
    if len(found):
        first = spill.Cursor([next(found.pieces()).slice(0, SHOWN)])
        lines, position = [], 0
        for piece in rows.pieces(["source"]):
            for row, standing, _ in first.below(position + len(piece)):
                lines.append(f"{piece['source'][row - position].as_py()}: has the same bytes as {standing!r}")
            position += len(piece)
        log.warning(
            "%d images have the bytes of another and are kept (dataset.drop_duplicates):%s",
            len(found),
            shown(lines, len(found)),
        )


def _ordered(base: spill.Database) -> Iterator[tuple[np.ndarray, pa.ChunkedArray]]:
    base.make("kept", "SELECT digest, key FROM rows ANTI JOIN dropped USING (row)")
    for piece in base.rows("SELECT digest, key FROM kept ORDER BY digest, key"):
        yield piece["digest"].to_numpy(), piece["key"]


def _dealt(
    rows: spill.Rows, dropped: spill.Rows, refusals: Refusals, dataset: Dataset, cuts: keys.Cuts
) -> Iterator[pa.Table]:
    """Rows of the manifest, not yet sorted; duplicates are refused in passing."""
    reasons = {
        False: "has the same bytes as {}",
        True: f"looks like {{}} (perceptual hashes differ in at most {dataset.perceptual_duplicates} bits)",
    }
    out, position = spill.Cursor(dropped.pieces()), 0
    for piece in rows.pieces():
        kept = np.ones(len(piece), bool)
        for row, standing, near in out.below(position + len(piece)):
            place = row - position
            kept[place] = False
            key, source = piece["key"][place].as_py(), piece["source"][place].as_py()
            refusals.add(key, source, reasons[near].format(repr(standing)), "duplicate")
        position += len(piece)
        piece = piece.filter(pa.array(kept))
        shard = cuts.shard_of(keys.digests(piece["key"]), piece["key"])
        columns = {name: piece[name] for name in ROWS.names} | {"shard": shard}
        yield pa.table({name: columns[name] for name in tables.MANIFEST.names}, schema=tables.MANIFEST)
