"""The audit of a set of views: are they like their originals, do they differ among themselves, what did they keep."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genview import atomic, placement
from genview.audit import figures, measures, pairs, pictures
from genview.audit.pairs import Pair, Views
from genview.audit.pictures import Measured
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit
from genview.data import manifest as manifests
from genview.data.reader import Reader
from genview.encoders import look
from genview.encoders.look import LoadedEncoder
from genview.models import judge as judges
from genview.models import load as models

JUDGED = ("class", "colour")
"""Heads of the judge whose verdict is reported, by their name in the manifest's attributes."""

EXAMPLES = 12
"""Originals in the picture of examples."""

Row = dict[str, Any]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifacts:
    """What is written: the JSON of measures, a PNG of them by condition, one of originals beside their views."""

    result: str | Path
    figure: str | Path
    examples: str | Path


def run(
    audit: Audit,
    blocks: Mapping[str, Encoder],
    views: Views,
    artifacts: Artifacts,
    *,
    seed: int,
    workers: int,
    stamp: Mapping[str, str],
) -> None:
    """Measure a set of views and draw what was found.

    Args:
        audit: how many images, and whether the judge is asked.
        blocks: encoders of the cosine, by name; the first gives the figure.
        views: what is measured.
        artifacts: what is written.
        seed: the study's seed, by which images are drawn.
        workers: processes that decode images.
        stamp: provenance.
    """
    drawn, with_views = pairs.draw(audit, views, seed)
    reader, found = Reader(views.root), []
    encoders: dict[str, LoadedEncoder] = {}
    if drawn:
        device = placement.default()
        encoders = {name: look.load(block, device) for name, block in blocks.items()}
        found = pictures.measured(
            drawn,
            reader,
            encoders,
            scenes=audit.judge and all(name in pair.attributes for pair in drawn for name in JUDGED),
            batch_size=min(block.batch_size for block in blocks.values()),
            workers=workers,
        )
    results: list[Row] = []
    if found:
        for name in encoders:
            named = {} if len(encoders) == 1 else {"encoder": name}
            results += [row | named for row in cosines(found, name)]
        results += pixel_diversity(found) + judged(found)
    else:
        logger.warning("view set %s: no image to audit", views.name)
    report: Row = {
        "view": views.name,
        "stamp": dict(stamp),
        "images": len(found),
        "samples": max((len(one.pair.views) for one in found), default=0),
        "missing": manifests.count(views.manifest) - with_views,
        "encoders": {name: encoder.record for name, encoder in encoders.items()} if found else {},
        "results": results,
    }
    atomic.write_json(artifacts.result, report)
    figures.measures(results, views.name, artifacts.figure)
    shown = sorted((one.pair for one in found[:EXAMPLES]), key=lambda pair: pair.noise_level or 0)
    figures.examples(shown, reader, artifacts.examples)


def grouped(pairs: Sequence[Pair], row: Callable[[Sequence[int], Row], Row]) -> list[Row]:
    """One result over all pairs, then one per noise level, or per guidance scale where there is no noise level."""
    found = [row(range(len(pairs)), {})]
    by = "noise_level" if any(pair.noise_level is not None for pair in pairs) else "guidance_scale"
    for value in sorted({getattr(pair, by) for pair in pairs}):
        found.append(row([i for i, pair in enumerate(pairs) if getattr(pair, by) == value], {by: value}))
    return found


def cosines(found: Sequence[Measured], encoder: str) -> list[Row]:
    """Cosine original-view, its chance level, and the cosine among samples, over all and by condition."""
    vectors = np.stack([one.vectors[encoder] for one in found])
    originals, views = vectors[:, 0], vectors[:, 1:]
    pairs = [one.pair for one in found]
    values = measures.likeness(originals, views)
    results = grouped(pairs, lambda chosen, group: measures.mean_row("clip_cosine", values[list(chosen)], **group))
    if len(pairs) > 1:
        results.append(measures.mean_row("clip_cosine_by_chance", measures.likeness_by_chance(originals, views)))
    several = [place for place, pair in enumerate(pairs) if pair.diversity and views.shape[1] > 1]
    if several:
        spread = 1 - measures.pairwise_cosine(views[several])
        results += grouped(
            [pairs[place] for place in several],
            lambda chosen, group: measures.mean_row("diversity_cosine", spread[list(chosen)], **group),
        )
    return results


def pixel_diversity(found: Sequence[Measured]) -> list[Row]:
    """Deviation of the pixels among the samples of an image; nothing where each image has one."""
    several = [one for one in found if one.deviation is not None]
    if not several:
        return []
    values = np.array([one.deviation for one in several])
    return grouped(
        [one.pair for one in several],
        lambda chosen, group: measures.mean_row("diversity_pixels", values[list(chosen)], **group),
    )


def judged(found: Sequence[Measured]) -> list[Row]:
    """Class and colour kept, by the judge of drawn scenes; nothing for other images.

    ``<name>_kept`` is the share of views that the judge takes for what the original was drawn as;
    ``<name>_of_original`` is the same for the originals, the most that can be expected.
    """
    pairs, scenes = [one.pair for one in found], [one.scenes for one in found if one.scenes is not None]
    if not scenes:
        return []
    judge = judges.load(models.small_directory("small/judge"))
    views = judge.classify(_pixels(np.concatenate([each[1:] for each in scenes])))
    originals = judge.classify(_pixels(np.stack([each[0] for each in scenes])))
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


def _pixels(scenes: np.ndarray) -> torch.Tensor:
    """Scenes uint8 [n, 32, 32, 3] as the judge takes them, [n, 3, 32, 32]."""
    return torch.from_numpy(scenes).permute(0, 3, 1, 2)
