"""The guidance scale of each image: from its score, constant, random, or given."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import parquet, randomness, tables
from genview.config.guidance import Guidance
from genview.data import manifest as manifests
from genview.data import published
from genview.data.aligned import aligned
from genview.errors import GenviewError
from genview.guidance import scales, scoring

_LOG = logging.getLogger(__name__)


def draw(keys: Sequence[str], scales: Sequence[float], seed: int) -> np.ndarray:
    """A scale per key, uniform over the different ``scales``, drawn from (seed, key) alone: float64 [n].

    It is the only draw of scales: a study whose strategy is random and a view set with random scales get the same.
    """
    options = sorted(set(scales))
    return np.array([randomness.choice(options, "guidance scale", seed, key) for key in keys], np.float64)


class _Chosen(NamedTuple):
    """Scales of some images; float64 [n], int32 [n] with nulls, bool [n]."""

    scale: np.ndarray
    score: pa.Array
    is_default: np.ndarray


def _given(column: pa.ChunkedArray, default: float) -> _Chosen:
    """Scales from the published file; the default stands where it does not list an image, or no number for it."""
    values = column.cast(pa.float64())
    filled = pc.fill_null(values, default).to_numpy()
    return _Chosen(filled, pa.nulls(len(values), pa.int32()), values.is_null().to_numpy())


def _adaptive(scores: pa.ChunkedArray, guidance: Guidance) -> _Chosen:
    unscored = scores.is_null().to_numpy()
    values = scales.scale(pc.fill_null(scores, 1).to_numpy(), scales=guidance.scales)
    values[unscored] = guidance.default_scale
    return _Chosen(values, scores.combine_chunks(), unscored)


def _drawn(keys: pa.ChunkedArray, guidance: Guidance, seed: int) -> _Chosen:
    """Scales that need no table: constant or random."""
    if guidance.strategy == "constant":
        values = np.full(len(keys), guidance.constant)
    else:
        values = draw(keys.to_pylist(), guidance.scales, seed)
    return _Chosen(values, pa.nulls(len(keys), pa.int32()), np.zeros(len(keys), bool))


@contextlib.contextmanager
def _given_table(
    guidance: Guidance, manifest: str | Path, root: str | Path | None, output: str | Path
) -> Iterator[Iterator[pa.ChunkedArray]]:
    """The published file's scales in the manifest's order; what it lists otherwise is logged."""
    path = guidance.given
    assert path is not None
    table = published.read_csv(path, "guidance_scale", image_root=root).select(["key", "guidance_scale"])
    with aligned(manifest, lambda: [table], table.schema, name=path, beside=output) as found:
        missing, unknown = found.missing, found.unknown
        if unknown.count == len(table):
            raise GenviewError(
                f"{path}: lists no image of the manifest; is the column 'image' relative to the same folder?"
            )
        if missing.count:
            _LOG.warning(
                "%s: does not list %d of %d images, such as %s; they get the default scale %g",
                path,
                missing.count,
                manifests.count(manifest),
                ", ".join(missing.first[:3]),
                guidance.default_scale,
                extra={"terminal": True},
            )
        if unknown.count:
            _LOG.warning(
                "%s: lists %d images that are not in the manifest, such as %s",
                path,
                unknown.count,
                ", ".join(unknown.first[:3]),
            )
        yield (piece["guidance_scale"] for piece in found.pieces)


@contextlib.contextmanager
def _score_table(
    shards: Sequence[str | Path], manifest: str | Path, output: str | Path
) -> Iterator[Iterator[pa.ChunkedArray]]:
    """The shards' scores in the manifest's order; null where a caption could not be scored."""
    parquet.require_alike(shards)
    schema = pa.schema([tables.GUIDANCE.field(name) for name in ("key", "score")])
    with aligned(
        manifest,
        lambda: parquet.batches(shards, tables.GUIDANCE, schema.names),
        schema,
        name="the guidance scores",
        beside=output,
    ) as found:
        missing, unknown = found.missing, found.unknown
        if missing.count or unknown.count:
            raise GenviewError(
                f"the guidance scores are not those of the manifest: {missing.count} images have none, {unknown.count} "
                f"keys name no image ({', '.join(map(repr, [*missing.first[:3], *unknown.first[:3]]))}); remake them"
            )
        yield (piece["score"] for piece in found.pieces)


class _Unscored:
    """Counts the captions that have no score; images without a caption do not count."""

    def __init__(self) -> None:
        self.captions = self.unscored = 0

    def add(self, captions: pa.ChunkedArray, scores: pa.Array) -> None:
        captioned = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(captions)), 0), False)
        self.captions += pc.sum(captioned).as_py() or 0
        self.unscored += pc.sum(pc.and_(captioned, pc.is_null(scores))).as_py() or 0

    def require(self, shards: Sequence[str | Path], allowed: float) -> None:
        """Stop if there are too many.

        Raises:
            GenviewError: says how many, and what the backend said most often.
        """
        if self.unscored <= allowed * self.captions:
            return
        answers: Counter[str] = Counter()
        for piece in parquet.batches(shards, tables.GUIDANCE, ["score", "raw_answer"]):
            words = piece.filter(pc.is_null(piece["score"]))["raw_answer"].to_pylist()
            answers.update((text or "").strip()[:500] for text in words if text != scoring.NO_CAPTION.raw_answer)
        words, count = answers.most_common(1)[0] if answers else ("", 0)
        told = f"{count} times the answer was: {words}" if words else f"{count} answers hold no words"
        raise GenviewError(
            f"{self.unscored} of {self.captions} captions could not be scored, more than the share of {allowed:g} that "
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
    adaptive = not guidance.given and guidance.strategy == "adaptive"
    unscored, levels, defaults = _Unscored(), Counter[float](), 0
    with contextlib.ExitStack() as stack:
        found: Iterator[pa.ChunkedArray] | None = None
        if guidance.given:
            found = stack.enter_context(_given_table(guidance, manifest, root, output))
        elif adaptive:
            found = stack.enter_context(_score_table(scores, manifest, output))
        writer = stack.enter_context(parquet.writing(tables.GUIDANCE_SCALE, output, **stamp))
        for rows in parquet.batches(manifest, tables.MANIFEST, ["key", "caption"]):
            if found is None:
                chosen = _drawn(rows["key"], guidance, seed)
            elif adaptive:
                chosen = _adaptive(next(found), guidance)
                unscored.add(rows["caption"], chosen.score)
            else:
                chosen = _given(next(found), guidance.default_scale)
            columns = {"guidance_scale": chosen.scale, "score": chosen.score, "is_default": chosen.is_default}
            writer.write({"key": rows["key"], **columns})
            levels.update(dict(zip(*(part.tolist() for part in np.unique(chosen.scale, return_counts=True)))))
            defaults += int(chosen.is_default.sum())
        if adaptive:
            unscored.require(scores, guidance.maximum_unscored)

    _LOG.info("guidance scales: %s", ", ".join(f"{level:g}: {levels[level]}" for level in sorted(levels)))
    if defaults:
        _LOG.warning("%d captions could not be scored and get %g", defaults, guidance.default_scale)
