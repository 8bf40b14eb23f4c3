"""Learning rate and loss coefficients as functions of the (fractional) epoch: a resumed run needs no state of them."""

import math

from genview.config.methods import Coefficients, GenViewPlusPlus


def learning_rate(epoch: float, *, epochs: float, warmup_epochs: float, peak: float, minimum: float = 0.0) -> float:
    """Linear warm-up from 0, then half a cosine down to ``minimum`` (MAE's schedule, as published by GenView++).

    Args:
        epoch: fractional epoch, from 0.
        epochs: length of the run.
        warmup_epochs: length of the warm-up.
        peak: rate at its end.
        minimum: rate at the end of the run.
    """
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    progress = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-12), 1.0)
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))


def cosine(step: float, *, total: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 to ``end`` at step ``total``, and ``end`` after it.

    Args:
        step: steps done, may be a fraction.
        total: steps of the run.
        start: value at the beginning; end: value at the end.
    """
    progress = min(max(step / total, 0.0), 1.0) if total > 0 else 1.0
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def momentum(step: float, *, total: float, base: float, final: float = 1.0) -> float:
    """Share of a momentum network that a step leaves as it was: from ``base`` up to ``final`` (BYOL, section 3.2).

    Args:
        step: steps done; BYOL and DINO update after step s with the value of s, MoCo v2 and v3 with that of s + 1.
        total: steps of the run.
        base: value at the beginning; final: value at the end.
    """
    return cosine(step, total=total, start=base, end=final)


def peak_learning_rate(base: float, *, images: int, crops: int, global_batch: int) -> float:
    """Published scaling: base x images of a sample x crops / 2 x samples of a step / 256.

    One crop per image halves the rate, as published: the rule is meant per pair of crops.
    """
    return base * images * (crops / 2) * (global_batch / 256)


def coefficients(method: GenViewPlusPlus, epoch: int) -> Coefficients:
    """The coefficients that hold in an epoch: ``later`` from the switch epoch on, whatever epoch a run resumed in."""
    return method.later if method.switch_epoch is not None and epoch >= method.switch_epoch else method.early
