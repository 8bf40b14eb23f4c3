"""Merge noise levels and guidance scales into one row per image of the manifest.

Nothing is dropped and nothing multiplies: rows keep the manifest's order, a table with a key twice is refused, keys
that a table has and the manifest does not are listed, and an image without a value that some view set needs stops the
study.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import atomic, tables
from genview.conditions import guidance_scale as guidance_scales
from genview.conditions import noise_level as noise_levels
from genview.data import manifest as manifests
from genview.errors import GenviewError
from genview.words import listed

logger = logging.getLogger("genview")

TEXT_MODES = ("txt", "imgtxt")

SHOWN = 20
"""Keys that a message names."""

NONE = "none"


@dataclass(frozen=True)
class Values:
    """Where the values of one condition come from.

    Attributes:
        table: of a value per key; None where no view set takes it from there.
        source: the strategy that made the table.
        drawn_from: what is drawn from for view sets of random values; empty where there are none.
    """

    table: str | Path | None
    source: str
    drawn_from: Sequence[float] = ()


def check_captions(manifest: str | Path, modes: Mapping[str, str]) -> None:
    """Refuse a study whose views need captions that are not there.

    Args:
        manifest: the study's manifest.
        modes: view set -> mode.

    Raises:
        GenviewError: images have no caption although a view set is made from captions; lists their keys.
    """
    views = [name for name, mode in modes.items() if mode in TEXT_MODES]
    if not views:
        return
    table = manifests.read(manifest, columns=["key", "caption"])
    keys = table.filter(pc.is_null(table["caption"]))["key"].to_pylist()
    if keys:
        raise GenviewError(
            f"view sets {', '.join(views)} are made from captions, but {len(keys)} images have none: "
            f"{listed(keys, SHOWN)}. Add captions, leave these images out (dataset.exclude), or leave the "
            "view sets out."
        )


def rows_of(keys: pa.ChunkedArray, table: pa.Table, path: str | Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Where each key is in a table: row numbers (null where it is not), and the table's keys that are not asked for.

    Raises:
        GenviewError: a key is in the table more than once.
    """
    counts = table["key"].value_counts()
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(doubled):
        raise GenviewError(f"{path}: one row per key is needed; more than one for {listed(doubled.to_pylist(), SHOWN)}")
    known = table["key"].combine_chunks()
    unmatched = table["key"].filter(pc.invert(pc.is_in(table["key"], value_set=keys.combine_chunks())))
    return pc.index_in(keys, value_set=known), unmatched


def _column(
    keys: pa.ChunkedArray, path: str | Path | None, schema: pa.Schema, name: str, what: str
) -> tuple[pa.Table | None, list[str]]:
    """The table's rows in the order of the keys, and its unmatched keys; None without a table.

    Raises:
        GenviewError: the table lacks keys.
    """
    if path is None:
        return None, []
    table = tables.read(path, schema)
    rows, unmatched = rows_of(keys, table, path)
    absent = keys.filter(pc.is_null(rows))
    if len(absent):
        raise GenviewError(
            f"{path}: {len(absent)} of {len(keys)} images have no {what}: {listed(absent.to_pylist(), SHOWN)}. "
            f"Views cannot be generated for them; add them to the given {name} file, or leave them out of the dataset."
        )
    if len(unmatched):
        logger.warning(
            "%s: %d keys are not in the manifest and are not used: %s",
            path,
            len(unmatched),
            listed(unmatched.to_pylist(), SHOWN),
        )
    return table.take(rows), unmatched.to_pylist()


def merge(manifest: pa.Table, noise_level: Values, guidance_scale: Values, seed: int) -> tuple[pa.Table, dict]:
    """One row of conditions per row of the manifest, types kept, and the account of what did not match.

    Args:
        manifest: columns key and caption.
        noise_level: its table is of tables.NOISE_LEVEL.
        guidance_scale: its table is of tables.GUIDANCE_SCALE.
        seed: the study's, for what is drawn.

    Raises:
        GenviewError: a table has a key twice, or lacks a key of the manifest.
    """
    keys = manifest["key"]
    count, names = len(keys), keys.to_pylist()
    levels, unknown_levels = _column(keys, noise_level.table, tables.NOISE_LEVEL, "noise_level", "noise level")
    scales, unknown_scales = _column(
        keys, guidance_scale.table, tables.GUIDANCE_SCALE, "guidance_scale", "guidance scale"
    )
    random_level = random_scale = None
    if noise_level.drawn_from:
        random_level = pa.array(noise_levels.draw(names, [int(level) for level in noise_level.drawn_from], seed))
    if guidance_scale.drawn_from:
        random_scale = pa.array(guidance_scales.draw(names, guidance_scale.drawn_from, seed))
    level_column = pa.nulls(count, pa.int32()) if levels is None else levels["noise_level"]
    scale_column = pa.nulls(count, pa.float32()) if scales is None else scales["guidance_scale"]
    defaults = np.zeros(count, bool) if scales is None else scales["is_default"].to_numpy()
    table = pa.table(
        {
            "key": keys,
            "caption": manifest["caption"],
            "noise_level": level_column,
            "guidance_scale": scale_column,
            "random_noise_level": pa.nulls(count, pa.int32()) if random_level is None else random_level,
            "random_guidance_scale": pa.nulls(count, pa.float32()) if random_scale is None else random_scale,
            "noise_level_from": pa.repeat(NONE if levels is None else noise_level.source, count),
            "guidance_scale_from": pc.if_else(
                pa.array(defaults), "default", NONE if scales is None else guidance_scale.source
            ),
        }
    )
    account = {
        "images": count,
        "without_caption": manifest["caption"].null_count,
        "default_guidance_scale": {"count": int(defaults.sum()), "keys": keys.filter(pa.array(defaults)).to_pylist()},
        "unmatched": {
            "noise_level": {"count": len(unknown_levels), "keys": unknown_levels},
            "guidance_scale": {"count": len(unknown_scales), "keys": unknown_scales},
        },
    }
    return table, account


def run(
    *,
    manifest: str | Path,
    noise_level: Values,
    guidance_scale: Values,
    modes: Mapping[str, str],
    seed: int,
    conditions: str | Path,
    unmatched: str | Path,
    stamp: dict[str, str],
) -> None:
    """Merge the study's conditions.

    Args:
        manifest: the study's manifest.
        noise_level, guidance_scale: where they come from.
        modes: view set -> mode; the text modes need captions.
        seed: the study's, for what is drawn.
        conditions: written: tables.CONDITIONS.
        unmatched: written: JSON, counts and keys of defaults used and of rows that match no image.
        stamp: provenance.

    Raises:
        GenviewError: an image would be lost: it lacks a caption, level or scale that a view set needs.
    """
    check_captions(manifest, modes)
    table, account = merge(manifests.read(manifest, columns=["key", "caption"]), noise_level, guidance_scale, seed)
    tables.write(table, tables.CONDITIONS, conditions, **stamp)
    atomic.write_json(unmatched, account | {"stamp": stamp})
    logger.info(
        "%d images, %d with the default guidance scale",
        account["images"],
        int(account["default_guidance_scale"]["count"]),
    )
