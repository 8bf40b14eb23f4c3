"""Which side of the component is foreground, and from where on: orientation, threshold, and their pictures."""

import dataclasses
import logging
from pathlib import Path

from safetensors.numpy import load_file

from genview import atomic
from genview.config.foreground import PrincipalComponent
from genview.errors import GenviewError
from genview.foreground import figures, pca

logger = logging.getLogger("genview")

FORCED = {"as_given": 1, "flipped": -1}


def choose(component: pca.PCA, scores, grid: tuple[int, int], config: PrincipalComponent) -> tuple[pca.PCA, dict]:
    """Orient a component and set its threshold.

    Args:
        component: as fitted or given.
        scores: the sample's raw projections on it [n, T].
        grid: rows and columns of the tokens.
        config: polarity, share or fixed threshold.

    Returns:
        The oriented PCA, and the evidence as JSON values.

    Raises:
        GenviewError: the orientation cannot be decided from so small a grid.
    """
    forced = FORCED.get(config.polarity)
    try:
        found = pca.orient(scores, grid)
    except GenviewError:
        if forced is None:
            raise
        found = None
    sign = forced or found.sign
    # A fixed threshold is one on the oriented projection, the scale that is shown in the histogram.
    limit = config.threshold if config.threshold is not None else pca.threshold(sign * scores, config.foreground_share)
    evidence = {"flipped": sign < 0, "method": "forced" if forced else "border tokens are background"}
    if found is not None:
        evidence |= {
            "margin": found.margin,
            "weak": found.weak,
            "border_mean": sign * found.border_mean,
            "centre_mean": sign * found.centre_mean,
            "images_agreeing": found.images_agreeing,
            "data_agree": found.sign == sign,
        }
        if found.weak and not forced:
            logger.warning(
                "the orientation of the component is uncertain (margin %.3f, %.0f %% of the images agree): look at the "
                "masks, and force pca.polarity if they show the background",
                found.margin,
                100 * found.images_agreeing,
            )
        if forced and found.sign != forced:
            logger.warning("pca.polarity is %s, but the data speak for the other side", config.polarity)
    oriented = dataclasses.replace(
        component,
        component=sign * component.component,
        threshold=float(limit),
        sign=sign,
        details={**component.details, "orientation": evidence},
    )
    return oriented, evidence


def run(
    config: PrincipalComponent,
    *,
    component: str | Path,
    sample_scores: str | Path,
    sample_images: str | Path,
    result: str | Path,
    summary: str | Path,
    histogram: str | Path,
    masks: str | Path,
    stamp: dict[str, str],
) -> None:
    """Orient the component, choose the threshold, and draw what follows from both.

    Args:
        config: polarity, share, threshold, number of pictures.
        component, sample_scores, sample_images: what the sample gave.
        result: written: ``pca.safetensors``.
        summary: written: ``pca.json``, the same in words and numbers.
        histogram, masks: written: PNG.
        stamp: provenance.
    """
    fitted, scores = pca.load(component), load_file(sample_scores)["scores"]
    grid = tuple(fitted.details["grid"])
    oriented, evidence = choose(fitted, scores, grid, config)
    oriented = dataclasses.replace(oriented, details={**oriented.details, "stamp": stamp})
    scores = oriented.sign * scores
    above = float((scores > oriented.threshold).mean())
    pca.save(oriented, result)
    atomic.write_json(
        summary,
        {
            **{name: value for name, value in oriented.details.items() if name not in ("orientation", "stamp")},
            "stamp": stamp,
            "threshold": oriented.threshold,
            "threshold_from": "given" if config.threshold is not None else "quantile",
            "foreground_share": above,
            "explained_variance_ratio": oriented.explained_variance_ratio,
            "tokens": oriented.tokens,
            "token_dim": len(oriented.component),
            "orientation": evidence,
        },
    )
    figures.histogram(scores, oriented.threshold, histogram)
    shown = load_file(sample_images)["images"][: config.pictures]
    figures.masks(shown, scores[: len(shown)].reshape(-1, *grid), oriented.threshold, masks)
    logger.info("threshold %.4f leaves %.1f %% of the sample's tokens above it", oriented.threshold, 100 * above)
