"""Stage ``mmvp``: how many of MMVP-VLM's pairs an encoder tells apart, by pattern, one JSON per model.

A pair is .74 points of the mean and 6.67 of its pattern, so every number has an interval over its pairs. Features that
draw tokens are scored several times, and their spread is stated beside the mean.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from statistics import pstdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genview import atomic, placement, provenance, randomness
from genview.config.evaluation import Mmvp, MmvpFeature
from genview.encoders import towers
from genview.evaluation import accuracy, frozen, mmvp, mmvp_pairs
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.mmvp_pairs import PAIRS, PAIRS_PER_PATTERN, PATTERNS, Pair

logger = logging.getLogger("genview")

CHANCE = 0.25
"""Share of pairs that independent guesses get right; a model that gives both statements one image gets none."""


@torch.inference_mode()
def encoded(encoder: FrozenEncoder, pairs: list[Pair], settings: Mmvp) -> Iterator[tuple[Pair, Tensor, Tensor, Tensor]]:
    """Pairs with their images' global [2, E] and local [2, T, E] features and statements' embeddings [2, E].

    Without a feature that looks at local tokens the local ones are empty, [2, 0, E].
    """
    wanted = ("embedding",) if set(settings.features) == {"global"} else ("embedding", "local")
    model, tower = encoder.model, towers.of(encoder.model.visual)
    for start in range(0, len(pairs), settings.batch_size):
        part = pairs[start : start + settings.batch_size]
        images = torch.stack([encoder.transform(image) for pair in part for image in pair.open()])
        texts = [settings.prompt.format(statement) for pair in part for statement in pair.statements]
        with torch.autocast(encoder.device.type, encoder.autocast, enabled=encoder.autocast is not None):
            seen = tower.see(images.to(encoder.device), wanted)
            statements = model.encode_text(encoder.tokenizer(texts).to(encoder.device))
        tokens = seen.embedding.float().cpu()
        local = tokens[:, None][:, :0] if seen.local is None else seen.local.float().cpu()
        statements = statements.float().cpu()
        for place, pair in enumerate(part):
            rows = slice(2 * place, 2 * place + 2)
            yield pair, tokens[rows], local[rows], statements[rows]


def outcomes(encoder: FrozenEncoder, pairs: list[Pair], settings: Mmvp, *, seed: int) -> dict[MmvpFeature, np.ndarray]:
    """Which pairs are right, by feature: bool [draws, P]; one draw for features without chance.

    A draw is a function of (seed, feature, draw, pair).
    """
    draws = {feature: settings.draws if feature in mmvp.RANDOM else 1 for feature in settings.features}
    found = {feature: np.zeros((number, len(pairs)), bool) for feature, number in draws.items()}
    for place, (pair, token, local, statements) in enumerate(encoded(encoder, pairs, settings)):
        for feature, number in draws.items():
            for draw in range(number):
                generator = torch.Generator().manual_seed(randomness.seed("mmvp", seed, feature, draw, pair.name))
                images = mmvp.image_feature(token, local, feature, generator)
                right = mmvp.score(mmvp.similarities(images[None], statements[None]))
                found[feature][draw, place] = bool(right[0])
    return found


def _rows(feature: str, right: np.ndarray) -> list[dict[str, Any]]:
    """The mean over the patterns and each pattern's score, as shares; intervals are those of a single draw's pairs."""
    patterns = right.mean(axis=0).reshape(len(PATTERNS), PAIRS_PER_PATTERN).mean(axis=1)
    mean = float(patterns.mean())
    rows = [accuracy.row(feature, mean, *accuracy.wilson(mean, PAIRS), PAIRS)]
    for pattern, share in zip(PATTERNS, map(float, patterns)):
        interval = accuracy.wilson(share, PAIRS_PER_PATTERN)
        rows.append(accuracy.row(f"{feature}: {pattern}", share, *interval, PAIRS_PER_PATTERN))
    return rows


def run(
    settings: Mmvp,
    folder: str | Path,
    *,
    seed: int,
    model: str | Path,
    precision: str,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Score a model and write the result.

    Args:
        settings: the configuration's block.
        folder: the data set, or the drawn stand-in.
        seed: of the study.
        model: of a run, or the settings of an encoder (`frozen.load`).
        precision: of the encoder.
        output: the result.
        stamp: of the stage.

    Raises:
        GenviewError: the data set is not whole, or the model is missing, has no text, or gives no local tokens.
    """
    pairs = mmvp_pairs.read(folder)
    device = placement.default()
    encoder = frozen.load(model, layer="embedding", precision=precision, device=device, text=True)
    found = outcomes(encoder, pairs, settings, seed=seed)
    files = [Path(folder) / mmvp_pairs.TABLE, *(image for pair in pairs for image in pair.images)]
    means = {feature: [float(draw.mean()) for draw in right] for feature, right in found.items()}
    for feature, shares in means.items():
        logger.info("%s: %.1f %% of the pairs", feature, 100 * sum(shares) / len(shares))
    result = {
        "dataset": "mmvp_stand_in" if settings.path is None else "mmvp",
        "metric": settings.features[0],
        "results": [row for feature, right in found.items() for row in _rows(feature, right)],
        "interval": "95 %, Wilson's score interval over the pairs; tokens drawn anew add no pairs",
        "chance": CHANCE,
        "draws": {
            feature: {"shares": shares, "deviation": pstdev(shares)}
            for feature, shares in means.items()
            if feature in mmvp.RANDOM
        },
        "pairs": {feature: right.mean(axis=0).tolist() for feature, right in found.items()},
        "split": {"pairs": len(pairs)},
        "data_digest": provenance.combined_file_digest(files),
        "model_digest": encoder.digest,
        "provenance": stamp,
    }
    atomic.write_json(output, result)
