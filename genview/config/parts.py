"""Probes of an encoder's parts, and tests on perturbed images (CLeVER, arXiv 2406.00262)."""

from typing import Annotated, Literal

from pydantic import Field

from genview.config.base import Block, RuntimeOnly, Share

Part = Literal["all", "ir", "ef", "last", "last_ir"]
"""Of the features that are probed, those of the last blocks side by side: ``all`` of them; ``ir``, all but the
equivariant factor; ``ef``, that factor; ``last``, the last block's; ``last_ir``, its invariant part alone."""

Perturbation = Literal["ori", "basic", "aug1", "aug1_2", "aug1_3", "aug1_4_1", "aug1_4_2", "aug1_4_3"]
"""CLeVER's perturbed tests, by its names: none; colour jitter; with a flip; with a rotation of up to 90 or (``aug1_3``)
180 degrees; with that of 90 and an elastic deformation of strength 50, 100 or 150."""


class Parts(Block):
    """Linear probes of the invariant and the equivariant part of an encoder, tested on perturbed images too."""

    datasets: Annotated[tuple[str, ...], RuntimeOnly] = ()
    """Every run is probed on them, and every encoder that is evaluated."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = ("all", "ir", "ef", "last_ir")
    """Of runs of method ``clever``, which say where the invariant part ends, and of others, cut at the same share as a
    control (``invariant_share``). As published ``ir`` holds whole class tokens of the blocks before the last."""
    invariant_share: Share = 0.8
    """Where encoders are cut that were not trained in two parts."""
    blocks: int = Field(4, ge=1)
    """Last blocks of a Vision Transformer whose class tokens are the features; others have their pooled feature."""
    perturbations: Annotated[tuple[Perturbation, ...], Field(min_length=1)] = (
        "ori", "basic", "aug1", "aug1_2", "aug1_4_2",
    )  # fmt: skip
    draws: int = Field(3, ge=1)
    """Draws of each perturbation for every test image; the accuracy is their mean."""
    rotation: Annotated[float, Field(gt=0, le=180)] | None = 90.0
    """Largest angle in degrees by which images are turned for the regression of that angle; null: no regression."""
    epochs: int = Field(100, ge=1)
    """Of SGD on augmented images (random resized crop and flip); the last is reported."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """At a batch of 256; scaled by batch / 256."""
    batch_size: int = Field(256, ge=1)
    minimum_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest area of the random resized crop, as a share of the image."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of the test images behind the 95 % intervals; 0: no interval."""
