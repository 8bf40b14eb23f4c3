"""Any method with an anchor: a distance to what the initial encoder makes of the same images."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from genview.config.training import Anchor
from genview.training.data.batch import Batch
from genview.training.methods.method import Method, ParameterGroup, Residue, Step, Terms


def distance(features: Tensor, initial: Tensor) -> Tensor:
    """Mean of 1 - cosine of features [B, F] and of the initial encoder's [B, F], float32; 0: nothing has moved."""
    with torch.autocast(features.device.type, enabled=False):
        return 1 - nn.functional.cosine_similarity(features.float(), initial.float(), dim=-1).mean()


class Anchored(Method):
    """A method whose loss has one more term: ``weight`` times the mean distance of a sample's first view.

    What a fine-tuned encoder forgets it forgets by moving away from where it started; the term says how far, and holds
    it. It costs a forward and a backward pass over one view a sample, and a forward pass of the frozen encoder.
    """

    def __init__(self, method: Method, settings: Anchor):
        super().__init__(method.run, method.model, method.scorer)
        del self.model  # a part of the method, once
        self.method, self.anchor = method, settings
        self.synchronised, self.draws = method.synchronised, method.draws
        # No part of the module: it never changes, and the initial weights say what it is.
        self._initial = (copy.deepcopy(method.model).requires_grad_(False).eval(),)

    def __getattr__(self, name: str) -> Any:
        return self.method.model if name == "model" else super().__getattr__(name)

    def _features(self, model: nn.Module, images: Tensor) -> Tensor:
        pooled = model.pooled(images)
        return model.projected(pooled) if self.anchor.feature == "embedding" else pooled

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """The method's losses and, as ``anchor``, the distance (a scalar in [0, 2])."""
        terms, residue = self.method(batch, step)
        images = batch.groups[0].views[0]
        (initial,) = self._initial
        with torch.no_grad():
            expected = self._features(initial.to(images.device), images)
        term = distance(self._features(self.method.model, images), expected)
        return {**terms, "loss": terms["loss"] + self.anchor.weight * term, "anchor": term}, residue

    def prepared(self, batch: Batch) -> Batch:
        """As the method."""
        return self.method.prepared(batch)

    def share(self, draw: int, microbatches: int) -> float:
        """As the method."""
        return self.method.share(draw, microbatches)

    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """As the method."""
        self.method.after_step(step, residues)

    def parameter_groups(self) -> list[ParameterGroup]:
        """As the method."""
        return self.method.parameter_groups()

    def held(self, step: Step) -> Iterable[Parameter]:
        """As the method."""
        return self.method.held(step)

    def exported(self) -> nn.Module:
        """As the method."""
        return self.method.exported()

    def record(self) -> dict[str, Any]:
        """As the method."""
        return self.method.record()

    def networks(self) -> Iterable[nn.Module]:
        """As the method."""
        return self.method.networks()
