"""SwAV (arXiv 2006.09882): crops predict the prototypes that the large crops are assigned to.

The tower sees the crops of one size together, the head all crops together, and so does BatchNorm. GenView's weight of
a sample is that of its two assigning crops' pair; it multiplies the cross-entropies of all its crops, since a bad pair
makes all predictions of its assignments bad ones. The assignments themselves are not weighted: they balance samples.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.loop.distributed import gather_detached, rank, world_size
from genview.training.losses import swapped_prediction
from genview.training.methods.heads import mlp
from genview.training.methods.method import (
    Method,
    Residue,
    Step,
    Terms,
    each_size,
    pair_weights,
    residue_of,
)
from genview.training.scoring import Scorer

ASSIGNING = (0, 1)
"""The crops whose assignments are predicted: the first two slots."""


class SwAV(Method):
    """Prototypes of unit length, and a queue of features for batches that are small beside their number.

    Attributes:
        prototypes: linear layer [P, D] without bias; its rows have unit length after every step.
        queue: unit features [2, Q, D], the newest first, equal on all processes; each process balances its share.
        queued: features in the queue.
    """

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        settings = self.settings
        self.projector = mlp(model.num_features, settings.projector)
        self.prototypes = nn.Linear(settings.projector[-1], settings.prototypes, bias=False)
        self._normalise()
        if settings.queue:
            self.register_buffer("queue", torch.zeros(len(ASSIGNING), settings.queue, settings.projector[-1]))
            self.register_buffer("queued", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def _normalise(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def _queue_scores(self) -> list[Tensor] | None:
        """Prototype scores of this process's share of the queue [Q / processes, P], once the queue is full."""
        if not self.settings.queue or int(self.queued) < self.settings.queue:
            return None
        share = self.queue[:, rank() :: world_size()]
        return [self.prototypes(features.to(self.prototypes.weight.dtype)) for features in share]

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """The swapped predictions of all crops."""
        features = each_size(self.model, batch)
        together = torch.cat(features)
        crops, samples = together.shape[:2]
        units = F.normalize(self.projector(together.flatten(0, 1)), dim=1)
        scores = list(self.prototypes(units).unflatten(0, (crops, samples)))
        with torch.no_grad():
            queue_scores = self._queue_scores()
        weights = pair_weights(self, batch)
        loss = swapped_prediction(
            scores,
            ASSIGNING,
            temperature=self.settings.temperature,
            epsilon=self.settings.epsilon,
            iterations=self.settings.iterations,
            weights=weights,
            queue_scores=queue_scores,
        )
        assigning = units.unflatten(0, (crops, samples))[: len(ASSIGNING)].detach().float()
        return {"loss": loss}, residue_of(features[0][: len(ASSIGNING)], assigning, weights)

    @torch.no_grad()
    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """Prototypes to unit length; the assigning crops of all processes to the queue."""
        self._normalise()
        if not self.settings.queue or step.epoch < self.settings.queue_from_epoch:
            return
        for residue in residues:
            crops = [gather_detached(crop.contiguous()) for crop in residue["projections"]]
            newest = torch.stack(crops).to(self.queue.dtype)
            self.queue.copy_(torch.cat([newest, self.queue], dim=1)[:, : self.settings.queue])
            self.queued.copy_((self.queued + newest.shape[1]).clamp(max=self.settings.queue))

    def held(self, step: Step) -> Iterable[Parameter]:
        """The prototypes, in the first epochs."""
        return [self.prototypes.weight] if step.epoch < self.settings.freeze_prototypes_epochs else []
