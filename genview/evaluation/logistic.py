"""Multinomial logistic regression with many penalties at once, as one batched problem.

All candidates see the same features, so that their logits come from one matrix product. Each has its own L-BFGS memory
and step (Liu & Nocedal 1989), and stops on its own; the objective is convex and smooth, so that backtracking from the
unit step finds an acceptable one (Nocedal & Wright 2006, algorithms 3.1 and 7.4).

Letters: K candidates, N rows, D features, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MEMORY = 10
SUFFICIENT_DECREASE = 1e-4
BACKTRACKS = 20
LOGITS_AT_ONCE = 2**27
"""Rows are taken in chunks of at most this many logits (K x rows x C), which bounds the memory."""


@dataclass(frozen=True)
class Fit:
    """Fitted candidates."""

    weights: Tensor
    """[K, D + 1, C]; the last row is the intercept, which is not penalised."""
    loss: Tensor
    """Penalised mean cross-entropy, [K]."""
    gradient: Tensor
    """Largest absolute entry of the gradient, [K]."""
    iterations: Tensor
    """Steps taken, int64 [K]."""
    converged: Tensor
    """Whether the gradient fell below the tolerance, bool [K]."""


def logits(features: Tensor, weights: Tensor) -> Tensor:
    """[K, N, C] from features [N, D] and weights [K, D + 1, C]."""
    candidates, rows, classes = weights.shape
    flat = weights[:, :-1].permute(1, 0, 2).reshape(rows - 1, candidates * classes)
    return (features @ flat).view(-1, candidates, classes).transpose(0, 1) + weights[:, -1:]


def objective(features: Tensor, labels: Tensor, weights: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy + penalty / 2 * |W|^2 per candidate [K], and its gradient [K, D + 1, C]."""
    candidates, rows, classes = weights.shape
    chunk = max(1, LOGITS_AT_ONCE // (candidates * classes))
    loss = torch.zeros(candidates, dtype=torch.float64, device=features.device)
    gradient = torch.zeros_like(weights)
    for start in range(0, len(features), chunk):
        x, y = features[start : start + chunk], labels[start : start + chunk]
        log_probabilities = functional.log_softmax(logits(x, weights), dim=2)
        target = y.view(1, -1, 1).expand(candidates, -1, 1)
        loss -= log_probabilities.gather(2, target).sum((1, 2), dtype=torch.float64)
        residual = log_probabilities.exp_()
        residual.scatter_add_(2, target, torch.full_like(target, -1, dtype=residual.dtype))
        flat = x.T @ residual.transpose(0, 1).reshape(len(x), candidates * classes)
        gradient[:, :-1] += flat.view(rows - 1, candidates, classes).transpose(0, 1)
        gradient[:, -1] += residual.sum(1)
    loss, gradient = loss / len(features), gradient / len(features)
    penalty = penalties.view(-1, 1, 1).to(weights.dtype)
    loss = loss + penalties.double() / 2 * weights[:, :-1].double().square().sum((1, 2))
    gradient[:, :-1] += penalty * weights[:, :-1]
    return loss, gradient


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Two-loop recursion for all candidates; a pair whose 1 / (s . y) is 0 plays no part."""
    q = gradient.clone()
    scale = torch.ones_like(gradient[:, :1, :1])
    coefficients = []
    for step, change, inverse in reversed(pairs):
        alpha = inverse * _dot(step, q)
        q -= alpha * change
        coefficients.append(alpha)
    for _, change, inverse in reversed(pairs):
        newest = (scale == 1) & (inverse > 0)
        scale = torch.where(newest, 1 / (inverse * _dot(change, change)).clamp_min(1e-30), scale)
    q *= scale
    for (step, change, inverse), alpha in zip(pairs, reversed(coefficients)):
        q += step * (alpha - inverse * _dot(change, q))
    return -q


def fit(
    features: Tensor,
    labels: Tensor,
    penalties: Tensor,
    classes: int,
    *,
    iterations: int = 300,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
) -> Fit:
    """Fit every candidate.

    Args:
        features: standardised, [N, D], float32 or float64; its device is where the work is done.
        labels: int64 [N], 0 .. classes - 1.
        penalties: L2 penalty of each candidate on the mean cross-entropy, [K]; C = 1 / (penalty * N) in scikit-learn.
        classes: C.
        iterations: steps at most.
        tolerance: a candidate stops when no entry of its gradient is larger.
        start: weights to start from [K, D + 1, C]; default: zero.
    """
    penalties = penalties.to(features.device)
    shape = (len(penalties), features.shape[1] + 1, classes)
    weights = torch.zeros(shape, dtype=features.dtype, device=features.device) if start is None else start.clone()
    loss, gradient = objective(features, labels, weights, penalties)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    steps = torch.zeros(len(penalties), dtype=torch.int64, device=features.device)
    largest = gradient.abs().amax((1, 2))
    active = largest > tolerance
    for _ in range(iterations):
        if not active.any():
            break
        direction = _direction(gradient, pairs)
        slope = _dot(gradient, direction)
        # Rounding can spoil a direction: such a candidate goes downhill instead.
        uphill = slope >= 0
        direction = torch.where(uphill, -gradient, direction)
        slope = torch.where(uphill, -_dot(gradient, gradient), slope).flatten().double()
        size = active.to(weights.dtype).view(-1, 1, 1)
        if not pairs:
            size = size / gradient.abs().sum((1, 2), keepdim=True).clamp_min(1)
        pending, accepted = active.clone(), torch.zeros_like(active)
        new_weights, new_loss, new_gradient = weights, loss, gradient
        for _ in range(BACKTRACKS):
            trial = weights + size * direction
            trial_loss, trial_gradient = objective(features, labels, trial, penalties)
            enough = trial_loss <= loss + SUFFICIENT_DECREASE * size.flatten().double() * slope
            good = pending & enough
            mask = good.view(-1, 1, 1)
            new_weights = torch.where(mask, trial, new_weights)
            new_gradient = torch.where(mask, trial_gradient, new_gradient)
            new_loss = torch.where(good, trial_loss, new_loss)
            accepted, pending = accepted | good, pending & ~good
            if not pending.any():
                break
            size = torch.where(pending.view(-1, 1, 1), size / 2, size)
        step, change = new_weights - weights, new_gradient - gradient
        curvature = _dot(step, change)
        curved = curvature > 1e-10 * _dot(change, change).clamp_min(1e-30)
        inverse = torch.where(curved & accepted.view(-1, 1, 1), 1 / curvature.clamp_min(1e-30), 0.0)
        pairs = [*pairs[-(MEMORY - 1) :], (step, change, inverse)]
        weights, loss, gradient = new_weights, new_loss, new_gradient
        steps += accepted
        largest = gradient.abs().amax((1, 2))
        # No acceptable step is left: as near to the optimum as this precision allows.
        active = active & accepted & (largest > tolerance)
    return Fit(weights, loss, largest, steps, largest <= tolerance)
