"""Floating-point operations of a training sample, for the share of the device's peak that a run uses."""

import torch

from genview import usage
from genview.training.data.samples import Samples
from genview.training.methods.method import Method


def of_a_sample(method: Method, samples: Samples, device: torch.device) -> float | None:
    """What a sample takes in the image towers: forward and backward of the trained one, forward of the others.

    A momentum network is taken to see the two large views. Heads, losses and captions are left out, so that the share
    that follows is a little too small. The method must be in evaluation mode: a norm has no statistics of one image.

    Returns:
        None where it cannot be told.
    """
    trained, *others = method.networks()
    total = 0.0
    for number, (size, views) in enumerate(zip(samples.sizes, samples.groups)):
        forward = usage.operations(trained.visual, (1, 3, size, size), device=device)
        if forward is None:
            return None
        total += forward * (3 * len(views) + (2 * len(others) if number == 0 else 0))
        if method.scorer is not None:
            encoder = method.scorer.encoder
            shape = (1, 3, encoder.image_size, encoder.image_size)
            total += len(views) * (usage.operations(encoder.encode, shape, device=device) or 0.0)
    return total
