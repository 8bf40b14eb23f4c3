"""Gradient caching: a contrast over the whole batch with the memory of a part of it (GradCache, Gao et al. 2021)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genview.training.data.batch import Batch
from genview.training.methods.contrastive import Contrastive
from genview.training.methods.method import Residue, Step, Terms


def _parts(batch: Batch, chunk: int) -> list[tuple[Tensor, Tensor | None]]:
    views = batch.views.split(chunk, dim=1)
    return list(zip(views, batch.text.split(chunk) if batch.text is not None else [None] * len(views)))


def backward(
    method: Contrastive,
    batch: Batch,
    step: Step,
    *,
    chunk: int,
    scaled_backward: Callable[[Tensor], None],
) -> tuple[Terms, Residue]:
    """Gradients of the whole batch's loss, with the towers' activations of ``chunk`` samples at a time.

    First the towers without gradients, chunk by chunk; then heads and losses on all features, whose gradients are
    kept; then the towers again, chunk by chunk, with those gradients. Equal to one backward pass over the whole
    batch as long as no layer of the towers looks at other samples (BatchNorm does).

    Args:
        method: not wrapped for data parallelism: its gradients are averaged afterwards.
        batch: on the method's device, views [V, B, 3, S, S].
        step: where the run is.
        chunk: samples per part.
        scaled_backward: ``loss.backward()``, with the scale of mixed precision.
    """
    parts = _parts(batch, chunk)
    with torch.no_grad():
        outputs = [method.towers(views, text, step.epoch) for views, text in parts]
    features = {name: torch.cat([part[name] for part in outputs], dim=-2).requires_grad_() for name in outputs[0]}
    terms, residue = method.losses(features, batch, step.epoch)
    scaled_backward(terms["loss"])
    gradients = {name: value.grad for name, value in features.items()}
    start = 0
    for views, text in parts:
        size = views.shape[1]
        again = method.towers(views, text, step.epoch)
        # A scalar whose gradient with respect to the features is what was kept; the loss's scale is in it already.
        surrogate: Any = sum(
            (again[name] * gradients[name].narrow(-2, start, size)).sum()
            for name in again
            if gradients[name] is not None
        )
        surrogate.backward()
        start += size
    return terms, residue
