"""Merge noise levels and guidance scales into one row per image of the manifest.

Nothing is dropped and nothing multiplies: rows keep the manifest's order, a table with a key twice is refused, keys
that a table has and the manifest does not are listed, and an image without a value that some view set needs stops the
study.
"""

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from genview import atomic, parquet, spill, tables
from genview.conditions import guidance_scale as guidance_scales
from genview.conditions import noise_level as noise_levels
from genview.data import manifest as manifests
from genview.data.aligned import aligned
from genview.errors import GenviewError

logger = logging.getLogger("genview")

TEXT_MODES = ("txt", "imgtxt")

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
    keys = manifests.without_caption(manifest)
    if keys.count:
        raise GenviewError(
            f"view sets {', '.join(views)} are made from captions, but {keys.count} images have none: "
            f"{keys}. Add captions, leave these images out (dataset.exclude), or leave the "
            "view sets out."
        )


class _Column:
    """One condition's table beside the manifest.

    Args:
        values: where it comes from.
        schema: of its table.
        name: of the condition, as its table and its given file are called.
    """

    def __init__(self, values: Values, schema: pa.Schema, name: str, manifest: str | Path, beside: str | Path):
        self.values, self.schema, self.name = values, schema, name
        self._manifest, self._beside = manifest, beside
        self.unknown = spill.Some()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Iterator[pa.Table | None]]:
        """Its rows in the manifest's order, piece by piece; without a table None, again and again.

        Raises:
            GenviewError: the table has a key twice, or lacks keys.
        """
        path, names = self.values.table, self.schema.names
        if path is None:
            yield itertools.repeat(None)
            return
        beside = f"{self._beside}.{self.name}"
        source = functools.partial(parquet.batches, path, self.schema, names)
        with aligned(self._manifest, source, self.schema, name=str(path), beside=beside) as found:
            if found.missing.count:
                what, total = self.name.replace("_", " "), manifests.count(self._manifest)
                raise GenviewError(
                    f"{path}: {found.missing.count} of {total} images have no {what}: {found.missing}. Views cannot be "
                    f"generated for them; add them to the given {self.name} file, or leave them out of the dataset."
                )
            self.unknown = found.unknown
            if found.unknown.count:
                logger.warning(
                    "%s: %d keys are not in the manifest and are not used: %s",
                    path,
                    found.unknown.count,
                    found.unknown,
                )
            yield found.pieces


def rows_of(
    manifest: pa.Table,
    levels: pa.Table | None,
    scales: pa.Table | None,
    noise_level: Values,
    guidance_scale: Values,
    seed: int,
) -> pa.Table:
    """Conditions of some images, a row for each, types kept: columns of ``tables.CONDITIONS``.

    Args:
        manifest: columns key and caption.
        levels: their rows of tables.NOISE_LEVEL; None where no view set takes a level from there.
        scales: their rows of tables.GUIDANCE_SCALE; None as above.
        noise_level, guidance_scale: where these come from.
        seed: the study's, for what is drawn.
    """
    count = len(manifest)
    random_level, random_scale = pa.nulls(count, pa.int32()), pa.nulls(count, pa.float32())
    names = manifest["key"].to_pylist() if noise_level.drawn_from or guidance_scale.drawn_from else []
    if noise_level.drawn_from:
        random_level = pa.array(noise_levels.draw(names, [int(level) for level in noise_level.drawn_from], seed))
    if guidance_scale.drawn_from:
        random_scale = pa.array(guidance_scales.draw(names, guidance_scale.drawn_from, seed))
    scale_from: pa.Array = pa.repeat(NONE, count)
    if scales is not None:
        scale_from = pc.if_else(scales["is_default"].combine_chunks(), "default", guidance_scale.source)
    return pa.table(
        {
            "key": manifest["key"],
            "caption": manifest["caption"],
            "noise_level": pa.nulls(count, pa.int32()) if levels is None else levels["noise_level"],
            "guidance_scale": pa.nulls(count, pa.float32()) if scales is None else scales["guidance_scale"],
            "random_noise_level": random_level,
            "random_guidance_scale": random_scale,
            "noise_level_from": pa.repeat(NONE if levels is None else noise_level.source, count),
            "guidance_scale_from": scale_from,
        }
    )


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
        unmatched: written: JSON, counts and the first keys of defaults used and of rows that match no image.
        stamp: provenance.

    Raises:
        GenviewError: an image would be lost: it lacks a caption, level or scale that a view set needs.
    """
    check_captions(manifest, modes)
    levels = _Column(noise_level, tables.NOISE_LEVEL, "noise_level", manifest, conditions)
    scales = _Column(guidance_scale, tables.GUIDANCE_SCALE, "guidance_scale", manifest, conditions)
    defaults: list[str] = []
    count = without_caption = 0
    with (
        levels.opened() as level_rows,
        scales.opened() as scale_rows,
        parquet.writing(tables.CONDITIONS, conditions, **stamp) as writer,
    ):
        for rows in parquet.batches(manifest, tables.MANIFEST, ["key", "caption"]):
            made = rows_of(rows, next(level_rows), next(scale_rows), noise_level, guidance_scale, seed)
            writer.write(made)
            default = made.filter(pc.equal(made["guidance_scale_from"], "default"))["key"]
            count += len(default)
            defaults += default.slice(0, spill.SHOWN - len(defaults)).to_pylist()
            without_caption += rows["caption"].null_count
    unknown = {
        name: {"count": keys.count, "keys": list(keys.first)}
        for name, keys in (("noise_level", levels.unknown), ("guidance_scale", scales.unknown))
    }
    account = {
        "images": writer.rows,
        "without_caption": without_caption,
        "default_guidance_scale": {"count": count, "keys": defaults},
        "unmatched": unknown,
    }
    atomic.write_json(unmatched, account | {"stamp": stamp})
    logger.info("%d images, %d with the default guidance scale", writer.rows, count)
