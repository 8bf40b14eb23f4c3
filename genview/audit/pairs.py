"""Which originals are audited, and where they and their views lie."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from genview import parquet, progress, randomness, tables
from genview.config.evaluation import Audit

DETAILS = ["key", "path", "offset", "length", "attributes"]
"""Of an original."""


class Place(NamedTuple):
    """Where an image's bytes are."""

    path: str
    """Under the root of the originals, or from the root of all files."""
    offset: int
    length: int | None


@dataclass(frozen=True)
class Pair:
    """An original and its generated samples."""

    key: str
    original: Place
    views: list[Place]
    noise_level: int | None
    guidance_scale: float
    attributes: dict[str, Any]
    diversity: bool
    """Whether its samples are compared among themselves."""


@dataclass(frozen=True)
class Views:
    """A set of views: its tables and tars, one a shard, and the originals that they were made from."""

    name: str
    manifest: str | Path
    root: str | Path
    """Folder that the manifest's paths are relative to."""
    indexes: Sequence[str | Path]
    tars: Sequence[str | Path]


def _keys(indexes: Sequence[str | Path]) -> Iterator[str]:
    """The originals that have views; all samples of one are in one shard."""
    for path in indexes:
        yield from pc.unique(parquet.read(path, tables.VIEWS, ["key"])["key"]).to_pylist()


def draw(audit: Audit, of: Views, seed: int) -> tuple[list[Pair], int]:
    """The originals that are audited, drawn by seed and key, in the order of the draw, with their samples.

    Returns:
        these, and how many originals have views.
    """
    parquet.require_alike(of.indexes)
    count = sum(1 for _ in _keys(of.indexes))
    most = max(audit.images, audit.diversity_images)
    chosen = randomness.sample(_keys(of.indexes), most, "draw", seed, "audit")
    wanted = pa.array(chosen, pa.string())
    originals = {
        row["key"]: row for row in parquet.with_keys(of.manifest, tables.MANIFEST, wanted, DETAILS).to_pylist()
    }
    views: dict[str, list[dict[str, Any]]] = {}
    for path, tar in zip(of.indexes, progress.track(of.tars, "find views", unit="shard")):
        table = parquet.read(path, tables.VIEWS)
        for row in table.filter(pc.is_in(table["key"], value_set=wanted)).to_pylist():
            views.setdefault(row["key"], []).append({**row, "path": str(Path(tar).resolve())})
    return [
        Pair(
            key=key,
            original=_place(originals[key]),
            views=[_place(row) for row in views[key]],
            noise_level=views[key][0]["noise_level"],
            guidance_scale=views[key][0]["guidance_scale"],
            attributes=json.loads(originals[key]["attributes"] or "{}"),
            diversity=place < audit.diversity_images,
        )
        for place, key in enumerate(chosen)
    ], count


def _place(row: dict[str, Any]) -> Place:
    return Place(row["path"], row["offset"], row["length"])
