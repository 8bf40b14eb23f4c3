"""The guidance scale of each image: from its score, constant, random, or given."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import randomness, tables
from genview.config.guidance import Guidance
from genview.data import manifest as manifests
from genview.data import published
from genview.errors import GenviewError
from genview.guidance import scales, scoring

_LOG = logging.getLogger(__name__)


def draw(keys: Sequence[str], scales: Sequence[float], seed: int) -> np.ndarray:
    """A scale per key, uniform over the different ``scales``, drawn from (seed, key) alone: float64 [n].

    It is the only draw of scales: a study whose strategy is random and a view set with random scales get the same.
    """
    options = sorted(set(scales))
    return np.array([randomness.choice(options, "guidance scale", seed, key) for key in keys], np.float64)


def _scores(keys: pa.ChunkedArray, shards: Sequence[str | Path]) -> pa.ChunkedArray:
    """The shards' scores in the manifest's order; null where a caption could not be scored."""
    made = tables.read_shards(shards, tables.GUIDANCE, ["key", "score"])
    if made["key"].equals(keys):
        return made["score"]
    rows, missing, unknown = published.align(made, keys)
    if missing or unknown or len(rows) != len(keys):
        raise GenviewError(
            f"the guidance scores are not those of the manifest: {len(missing)} images have none, {len(unknown)} keys "
            f"are no image ({', '.join(map(repr, [*missing[:3], *unknown[:3]]))}), or a key is there twice; remake them"
        )
    return rows["score"]


def _given(keys: pa.ChunkedArray, guidance: Guidance, root: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Scales from the published file, and where the default stands: image not listed, or scale not a number."""
    rows, missing, unknown = published.align(
        published.read_csv(guidance.given, "guidance_scale", image_root=root), keys
    )
    if missing:
        _LOG.warning(
            "%s: does not list %d of %d images, such as %s; they get the default scale %g",
            guidance.given,
            len(missing),
            len(keys),
            ", ".join(missing[:3]),
            guidance.default_scale,
            extra={"terminal": True},
        )
    if unknown:
        _LOG.warning(
            "%s: lists %d images that are not in the manifest, such as %s",
            guidance.given,
            len(unknown),
            ", ".join(unknown[:3]),
        )
    if not len(rows):
        raise GenviewError(
            f"{guidance.given}: lists no image of the manifest; is the column 'image' relative to the same folder?"
        )
    positions = pc.index_in(keys, value_set=rows["key"])
    values = rows["guidance_scale"].cast(pa.float64()).take(positions)
    return pc.fill_null(values, guidance.default_scale).to_numpy(), values.is_null().to_numpy()


def _adaptive(scores: pa.ChunkedArray, guidance: Guidance) -> tuple[np.ndarray, np.ndarray]:
    unscored = scores.is_null().to_numpy()
    filled = pc.fill_null(scores, 1).to_numpy()
    values = scales.scale(filled, scales=guidance.scales)
    values[unscored] = guidance.default_scale
    return values, unscored


def _require_scores(
    scores: pa.ChunkedArray, captions: pa.ChunkedArray, shards: Sequence[str | Path], allowed: float
) -> None:
    """Stop if too many captions have no score; images without a caption do not count.

    Raises:
        GenviewError: says how many, and what the backend said most often.
    """
    captioned = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(captions)), 0), False)
    unscored = pc.sum(pc.and_(captioned, pc.is_null(scores))).as_py() or 0
    total = pc.sum(captioned).as_py() or 0
    if unscored <= allowed * total:
        return
    made = tables.read_shards(shards, tables.GUIDANCE, ["score", "raw_answer"])
    answers = made.filter(pc.is_null(made["score"]))["raw_answer"].to_pylist()
    answers = Counter((answer or "").strip()[:500] for answer in answers if answer != scoring.NO_CAPTION.raw_answer)
    words, count = answers.most_common(1)[0] if answers else ("", 0)
    told = f"{count} times the answer was: {words}" if words else f"{count} answers hold no words"
    raise GenviewError(
        f"{unscored} of {total} captions could not be scored, more than the share of {allowed:g} that "
        f"guidance.maximum_unscored allows; {told}. Mend the backend and ask again for those alone "
        "(snakemake --forcerun guidance_score), or allow more: they get guidance.default_scale"
    )


def run(
    guidance: Guidance,
    *,
    manifest: str | Path,
    scores: Sequence[str | Path],
    output: str | Path,
    seed: int,
    stamp: Mapping[str, str],
    root: str | Path | None = None,
) -> None:
    """Write one guidance scale per row of the manifest.

    Args:
        guidance: strategy and scales.
        manifest: ``manifest.parquet``.
        scores: the shards' scores in order (``tables.GUIDANCE``); none unless the strategy is adaptive.
        output: the Parquet file (``tables.GUIDANCE_SCALE``).
        seed: the study's seed, for the random strategy.
        stamp: provenance of the table.
        root: folder of the images; absolute paths in a given file are relative to it.

    Raises:
        GenviewError: the scores are not those of the manifest, or were not made alike, too many are missing, or a given
            file is of no use.
    """
    rows = manifests.read(manifest, columns=["key", "caption"])
    keys = rows["key"]
    score = pa.nulls(len(keys), pa.int32())
    is_default = np.zeros(len(keys), bool)
    if guidance.given:
        values, is_default = _given(keys, guidance, root)
    elif guidance.strategy == "constant":
        values = np.full(len(keys), guidance.constant)
    elif guidance.strategy == "random":
        values = draw(keys.to_pylist(), guidance.scales, seed)
    else:
        score = _scores(keys, scores)
        _require_scores(score, rows["caption"], scores, guidance.maximum_unscored)
        values, is_default = _adaptive(score, guidance)
    columns = {"key": keys, "guidance_scale": pa.array(values, pa.float32()), "score": score, "is_default": is_default}
    tables.write(pa.table(columns), tables.GUIDANCE_SCALE, output, **stamp)

    levels, counts = np.unique(values, return_counts=True)
    _LOG.info("guidance scales: %s", ", ".join(f"{level:g}: {count}" for level, count in zip(levels, counts)))
    if is_default.any():
        _LOG.warning(
            "%d of %d captions could not be scored and get %g", is_default.sum(), len(keys), guidance.default_scale
        )
