"""The audit of a set of views: are they like their originals, do they differ among themselves, what did they keep."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image

from genview import atomic, parquet, placement, progress, randomness, tables
from genview.audit import figures, measures
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit
from genview.data import manifest as manifests
from genview.data.reader import Reader
from genview.encoders import look
from genview.encoders.look import LoadedEncoder
from genview.errors import GenviewError
from genview.models import judge as judges
from genview.models import load as models

JUDGED = ("class", "colour")
"""Heads of the judge whose verdict is reported, by their name in the manifest's attributes."""

EXAMPLES = 12
"""Originals in the picture of examples."""

DETAILS = ["key", "path", "offset", "length", "attributes"]
"""Of an original."""

Row = dict[str, Any]
logger = logging.getLogger(__name__)


@dataclass
class Pair:
    """An original and its generated samples."""

    key: str
    original: Image.Image
    views: list[Image.Image]
    noise_level: int | None
    guidance_scale: float
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Views:
    """A set of views: its tables and tars, one a shard, and the originals that they were made from."""

    name: str
    manifest: str | Path
    root: str | Path
    """Folder that the manifest's paths are relative to."""
    indexes: Sequence[str | Path]
    tars: Sequence[str | Path]


@dataclass(frozen=True)
class Artifacts:
    """What is written: the JSON of measures, a PNG of them by condition, one of originals beside their views."""

    result: str | Path
    figure: str | Path
    examples: str | Path


def run(
    audit: Audit, blocks: Mapping[str, Encoder], views: Views, artifacts: Artifacts, *, seed: int, stamp: Mapping
) -> None:
    """Measure a set of views and draw what was found.

    Args:
        audit: how many images, and whether the judge is asked.
        blocks: encoders of the cosine, by name; the first gives the figure.
        views: what is measured.
        artifacts: what is written.
        seed: the study's seed, by which images are drawn.
        stamp: provenance.
    """
    pairs, with_views = _pairs(audit, views, seed)
    report: Row = {
        "view": views.name,
        "stamp": dict(stamp),
        "images": len(pairs),
        "samples": max((len(pair.views) for pair in pairs), default=0),
        "missing": manifests.count(views.manifest) - with_views,
        "encoders": {},
        "results": [],
    }
    if pairs:
        device = placement.default()
        for encoder_name, block in blocks.items():
            loaded = look.load(block, device)
            report["encoders"][encoder_name] = loaded.record
            found = cosines(pairs, loaded, block.batch_size, audit.diversity_images)
            named = {} if len(blocks) == 1 else {"encoder": encoder_name}
            report["results"] += [row | named for row in found]
        report["results"] += pixel_diversity(pairs[: audit.diversity_images])
        if audit.judge:
            report["results"] += judged(pairs)
    else:
        logger.warning("view set %s: no image to audit", views.name)
    atomic.write_json(artifacts.result, report)
    figures.measures(report["results"], views.name, artifacts.figure)
    figures.examples(sorted(pairs[:EXAMPLES], key=lambda pair: pair.noise_level or 0), artifacts.examples)


def _keys(indexes: Sequence[str | Path]) -> Iterator[str]:
    """The originals that have views; all samples of one are in one shard."""
    for path in indexes:
        yield from pc.unique(parquet.read(path, tables.VIEWS, ["key"])["key"]).to_pylist()


def _pairs(audit: Audit, of: Views, seed: int) -> tuple[list[Pair], int]:
    """The originals that are audited, drawn by seed and key, in the order of the draw, with their samples.

    Returns:
        these, and how many originals have views.
    """
    parquet.require_alike(of.indexes)
    count = sum(1 for _ in _keys(of.indexes))
    most = max(audit.images, audit.diversity_images)
    chosen = randomness.sample(_keys(of.indexes), most, "draw", seed, "audit")
    wanted = pa.array(chosen, pa.string())
    rows = parquet.with_keys(of.manifest, tables.MANIFEST, wanted, DETAILS).to_pylist()
    originals = {row["key"]: row for row in rows}
    samples: dict[str, list[Row]] = {}
    for path, tar in zip(of.indexes, of.tars):
        table = parquet.read(path, tables.VIEWS)
        for row in table.filter(pc.is_in(table["key"], value_set=wanted)).to_pylist():
            samples.setdefault(row["key"], []).append({**row, "tar": str(tar)})
    reader = Reader(of.root)
    views, pairs = Reader("."), []
    for key in progress.track(chosen, "read views"):
        made, original = samples[key], originals[key]
        try:
            picture = reader.image(original["path"], original["offset"], original["length"])
        except GenviewError as error:
            logger.warning("%s is left out of the audit: %s", key, error)
            continue
        pairs.append(
            Pair(
                key=key,
                original=picture,
                views=[views.image(Path(row["tar"]).resolve(), row["offset"], row["length"]) for row in made],
                noise_level=made[0]["noise_level"],
                guidance_scale=made[0]["guidance_scale"],
                attributes=json.loads(original["attributes"] or "{}"),
            )
        )
    return pairs, count


def grouped(pairs: Sequence[Pair], row: Callable[[Sequence[int], Row], Row]) -> list[Row]:
    """One result over all pairs, then one per noise level, or per guidance scale where there is no noise level."""
    found = [row(range(len(pairs)), {})]
    by = "noise_level" if any(pair.noise_level is not None for pair in pairs) else "guidance_scale"
    for value in sorted({getattr(pair, by) for pair in pairs}):
        found.append(row([i for i, pair in enumerate(pairs) if getattr(pair, by) == value], {by: value}))
    return found


def cosines(pairs: Sequence[Pair], loaded: LoadedEncoder, batch_size: int, diversity_images: int) -> list[Row]:
    """Cosine original-view, its chance level, and the cosine among samples, over all and by condition."""
    samples = min(len(pair.views) for pair in pairs)
    pictures = [picture for pair in pairs for picture in (pair.original, *pair.views[:samples])]
    vectors = _encode(loaded, pictures, batch_size).reshape(len(pairs), 1 + samples, -1)
    originals, views = vectors[:, 0], vectors[:, 1:]
    values = measures.likeness(originals, views)
    results = grouped(pairs, lambda chosen, group: measures.mean_row("clip_cosine", values[list(chosen)], **group))
    if len(pairs) > 1:
        results.append(measures.mean_row("clip_cosine_by_chance", measures.likeness_by_chance(originals, views)))
    if samples > 1 and diversity_images:
        spread, few = measures.pairwise_cosine(views[:diversity_images]), pairs[:diversity_images]
        results += grouped(
            few, lambda chosen, group: measures.mean_row("diversity_cosine", 1 - spread[list(chosen)], **group)
        )
    return results


@torch.inference_mode()
def _encode(loaded: LoadedEncoder, pictures: Sequence[Image.Image], batch_size: int) -> np.ndarray:
    """Embeddings [n, E] of pictures, in batches."""
    parts = []
    for start in progress.track(range(0, len(pictures), batch_size), "encode", unit="batch"):
        images = torch.stack([loaded.transform.pixels(picture) for picture in pictures[start : start + batch_size]])
        parts.append(loaded.encode(images)[1].cpu().numpy())
    return np.concatenate(parts)


def pixel_diversity(pairs: Sequence[Pair]) -> list[Row]:
    """Deviation of the pixels among the samples of an image; nothing where each image has one."""
    samples = min((len(pair.views) for pair in pairs), default=0)
    if samples < 2:
        return []
    values = np.concatenate(
        [measures.pixel_deviation(np.stack([np.asarray(view) for view in pair.views])[None]) for pair in pairs]
    )
    return grouped(pairs, lambda chosen, group: measures.mean_row("diversity_pixels", values[list(chosen)], **group))


def judged(pairs: Sequence[Pair]) -> list[Row]:
    """Class and colour kept, by the judge of drawn scenes; nothing for other images.

    ``<name>_kept`` is the share of views that the judge takes for what the original was drawn as;
    ``<name>_of_original`` is the same for the originals, the most that can be expected.
    """
    if not all(name in pair.attributes for pair in pairs for name in JUDGED):
        return []
    judge = judges.load(models.small_directory("small/judge"))
    views = judge.classify(_pixels([view for pair in pairs for view in pair.views]))
    originals = judge.classify(_pixels([pair.original for pair in pairs]))
    owner = np.repeat(np.arange(len(pairs)), [len(pair.views) for pair in pairs])
    results = []
    for name in JUDGED:
        truth = np.array([judge.heads[name].index(pair.attributes[name]) for pair in pairs])
        hits = (views[name].numpy() == truth[owner]).astype(np.float64)
        kept = np.bincount(owner, hits) / np.bincount(owner)
        results += grouped(
            pairs,
            lambda chosen, group, name=name, kept=kept: measures.share_row(f"{name}_kept", kept[list(chosen)], **group),
        )
        results.append(measures.share_row(f"{name}_of_original", originals[name].numpy() == truth))
    return results


def _pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as the judge takes them, uint8 [n, 3, 32, 32]."""
    arrays = [np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC)) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
