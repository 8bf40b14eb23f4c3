"""MoCo v2 (arXiv 1911.05722, 2003.04297): a view finds the other view's key among a queue of earlier keys.

BatchNorm sees parts of the batch, as if each were on its own GPU, and the keys' samples are permuted among the parts by
(seed, step): a query must not be told from a key by the statistics that they share. GenView's weight belongs to the
pair of query and key; the queue's keys are negatives of every query and carry none.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from genview import randomness
from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.loop.batchnorm import in_parts
from genview.training.loop.distributed import gather_detached, rank, world_size
from genview.training.losses import info_nce
from genview.training.methods.heads import mlp
from genview.training.methods.method import (
    Method,
    Residue,
    Step,
    Terms,
    first_pair,
    follow,
    momentum,
    momentum_copy,
    pair_weights,
    residue_of,
)
from genview.training.scoring import Scorer


class MoCoV2(Method):
    """Queries from the trained network, keys from a momentum network, negatives from the queue.

    Attributes:
        queue: unit keys [K, D], equal on all processes.
        place: where the next keys go.
    """

    synchronised = False

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        self.projector = mlp(model.num_features, self.settings.projector, norm=False)
        parts = self.settings.batchnorm_groups // world_size()
        in_parts(self, parts)
        self.key = momentum_copy(nn.ModuleList([self.model, self.projector]))
        keys = torch.randn(self.settings.queue, self.settings.projector[-1])
        self.register_buffer("queue", F.normalize(keys, dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def _keys(self, images: torch.Tensor, step: Step) -> torch.Tensor:
        """Unit keys [B, D] of this process's images, computed in another process's or part's company."""
        everyone = gather_detached(images)
        generator = torch.Generator().manual_seed(randomness.seed("keys", self.run.seed, step.number))
        order = torch.randperm(len(everyone), generator=generator).to(images.device)
        own = slice(rank() * len(images), (rank() + 1) * len(images))
        model, projector = self.key
        keys = gather_detached(F.normalize(projector(model.pooled(everyone[order[own]])).float(), dim=1))
        return keys[order.argsort()[own]]

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """InfoNCE of the first view's queries with the second view's keys."""
        first, second = first_pair(batch)
        features = self.model.pooled(first)
        queries = self.projector(features)
        with torch.no_grad():
            keys = self._keys(second, step)
        weights = pair_weights(self, batch)
        loss = info_nce(queries, keys, self.queue, temperature=self.settings.temperature, weights=weights)
        compared = torch.stack([queries.detach().float(), keys])
        return {"loss": loss}, {**residue_of(features[None], compared, weights), "keys": keys}

    @torch.no_grad()
    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """Queue the keys of all processes in place of the oldest; the key network follows."""
        for residue in residues:
            keys = gather_detached(residue["keys"])
            places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            self.queue[places] = keys.to(self.queue.dtype)
            self.place.copy_((self.place + len(keys)) % len(self.queue))
        share = momentum(self.settings.momentum, step.number + 1, step.total)
        follow(self.key, nn.ModuleList([self.model, self.projector]), share, buffers=True)

    def networks(self) -> Iterable[nn.Module]:
        """The trained one and the one that follows."""
        return [self.model, self.key[0]]
