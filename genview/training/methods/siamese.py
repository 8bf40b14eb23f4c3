"""SimSiam, BYOL and MoCo v3: a predictor makes of one view what a target makes of the other, and the other way round.

They differ in the target (the network's own projection, or a momentum network's), in the loss, and in the heads. Each
view passes the networks on its own, so that BatchNorm is per view. GenView's weight of a pair multiplies both
directions alike (GenView, eq. 14).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.losses import in_batch_contrast, negative_cosine
from genview.training.methods.heads import mlp
from genview.training.methods.method import (
    Method,
    ParameterGroup,
    Residue,
    Step,
    Terms,
    first_pair,
    follow,
    momentum,
    momentum_copy,
    pair_weights,
    residue_of,
    trained,
)
from genview.training.scoring import Scorer


class Siamese(Method):
    """Two views, each predicting the other's target.

    Attributes:
        target: momentum copy of ``[model, projector]``, or None where the target is the network itself.
    """

    projector: nn.Module
    predictor: nn.Module
    has_momentum = True

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        self.build(model.num_features)
        self.target = momentum_copy(nn.ModuleList([model, self.projector])) if self.has_momentum else None

    def build(self, features: int) -> None:
        """The projector and the predictor for features of a width."""
        raise NotImplementedError

    def loss(self, prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        """One direction: [B, D] and [B, D] to a scalar; the two directions are added."""
        raise NotImplementedError

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """Both directions, and their sum."""
        views = first_pair(batch)
        features = [self.model.pooled(view) for view in views]
        projections = [self.projector(feature) for feature in features]
        predictions = [self.predictor(projection) for projection in projections]
        targets = projections
        if self.target is not None:
            model, projector = self.target
            with torch.no_grad():
                targets = [projector(model.pooled(view)) for view in views]
        weights = pair_weights(self, batch)
        loss = self.loss(predictions[0], targets[1], weights) + self.loss(predictions[1], targets[0], weights)
        return {"loss": loss}, residue_of(torch.stack(features), torch.stack(projections), weights)

    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """The target follows; its running statistics are the trained network's."""
        if self.target is not None:
            share = momentum(self.settings.momentum, self.momentum_step(step), step.total)
            follow(self.target, nn.ModuleList([self.model, self.projector]), share, buffers=True)

    def momentum_step(self, step: Step) -> int:
        """The step whose momentum is taken: this one's."""
        return step.number

    def networks(self) -> Iterable[nn.Module]:
        """The trained one and the one that follows."""
        return [self.model] if self.target is None else [self.model, self.target[0]]


class SimSiam(Siamese):
    """SimSiam (arXiv 2011.10566): the mean of both directions' negative cosines; no momentum network."""

    has_momentum = False

    def build(self, features: int) -> None:
        """A projector that ends in a norm without scale and shift, a predictor that is a bottleneck."""
        self.projector = mlp(features, self.settings.projector, last_norm="plain")
        self.predictor = mlp(self.settings.projector[-1], self.settings.predictor)

    def loss(self, prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        """Half of minus the cosine of [B, P] and [B, P], weighted by [B]; a scalar."""
        return negative_cosine(prediction, target, weights=weights) / 2

    def parameter_groups(self) -> list[ParameterGroup]:
        """The predictor's rate does not decay, as published."""
        own = trained(self)
        predictor = {name: own.pop(name) for name in list(own) if name.startswith("predictor.")}
        fixed = self.settings.fixed_predictor_rate
        return [ParameterGroup("all", own), ParameterGroup("predictor", predictor, lr_fixed=fixed)]


class BYOL(Siamese):
    """BYOL (arXiv 2006.07733): twice the sum of both directions' negative cosines."""

    def build(self, features: int) -> None:
        """Two heads of the same form."""
        self.projector = mlp(features, self.settings.projector)
        self.predictor = mlp(self.settings.projector[-1], self.settings.predictor)

    def loss(self, prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        """Minus twice the cosine of [B, P] and [B, P]: the squared distance of unit vectors but for a constant."""
        return 2 * negative_cosine(prediction, target, weights=weights)


class MoCoV3(Siamese):
    """MoCo v3 (arXiv 2104.02057): the sum of both directions' contrasts among all processes' keys."""

    def build(self, features: int) -> None:
        """Heads without biases; norms at their ends have neither scale nor shift."""
        last = "plain" if self.settings.predictor_last_norm else "none"
        self.projector = mlp(features, self.settings.projector, last_norm="plain")
        self.predictor = mlp(self.settings.projector[-1], self.settings.predictor, last_norm=last, last_bias=False)

    def loss(self, prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        """InfoNCE of [B, P] among the batch's keys [B, P], times 2 x temperature; a scalar."""
        return in_batch_contrast(prediction, target, temperature=self.settings.temperature, weights=weights)

    def momentum_step(self, step: Step) -> int:
        """The next one's: MoCo moves its key network at the beginning of a step, which is the same."""
        return step.number + 1
