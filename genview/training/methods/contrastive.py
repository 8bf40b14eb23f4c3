"""What the methods share that contrast within a batch: towers and losses apart, so that towers can run in chunks."""

import torch
from torch import Tensor, nn

from genview.training.data.batch import Batch
from genview.training.methods.method import Method, Residue, Step, Terms


class Contrastive(Method):
    """The towers and what follows them are separate calls; the loop runs the towers in chunks (gradient caching)."""

    def towers(self, views: Tensor, text: Tensor | None, epoch: int) -> dict[str, Tensor]:
        """Features of M samples: ``views`` [V, M, 3, S, S], ``text`` [M, L]; each result is [..., M, F] by name.

        The samples' dimension is the last but one of every result.
        """
        return {"image": self.model.pooled(views.flatten(0, 1)).unflatten(0, views.shape[:2])}

    def losses(self, features: dict[str, Tensor], batch: Batch, epoch: int) -> tuple[Terms, Residue]:
        """Named terms of the whole batch and, as ``loss``, what is minimised; and what the monitors look at.

        ``features`` are [V, B, D] of the views (image) and [B, D] of the captions (text).
        """
        raise NotImplementedError

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """Towers and losses in one go; the losses in float32 whatever the autocast."""
        return self.losses(self.towers(batch.views, batch.text, step.epoch), batch, step.epoch)


def projected(head: nn.Module, features: Tensor) -> Tensor:
    """[V, B, F] to [N, D] view-major, the head applied to each view on its own: BatchNorm is per view."""
    return torch.cat([head(view) for view in features])
