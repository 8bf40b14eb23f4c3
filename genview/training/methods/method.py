"""What a method is to the loop, the data and the checkpoints."""

import torch
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.loop.distributed import rank
from genview.training.scoring import Scorer


class Method(nn.Module):
    """Heads and losses around a model. All of its parameters are trained and all of its state is checkpointed.

    The towers and what follows them are separate calls, so that the loop can run the towers in chunks and the losses
    on the whole batch (gradient caching).

    Attributes:
        model: what is exported: ``open_clip.CLIP`` or ``ImageModel``.
        scorer: the quality encoder, or None.
    """

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__()
        self.run, self.model, self.scorer = run, model, scorer

    def towers(self, views: Tensor, text: Tensor | None, epoch: int) -> dict[str, Tensor]:
        """Features of M samples: ``views`` [V, M, 3, S, S], ``text`` [M, L]; each result is [..., M, F] by name.

        The samples' dimension is the last but one of every result.
        """
        trunk = self.model.visual.trunk(views.flatten(0, 1))
        return {"image": trunk.unflatten(0, views.shape[:2])}

    def losses(self, features: dict[str, Tensor], batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Named terms of the whole batch and, as ``loss``, what is minimised."""
        raise NotImplementedError

    def forward(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Towers and losses in one go; the losses in float32 whatever the autocast."""
        return self.losses(self.towers(batch.views, batch.text, epoch), batch, epoch)

    def after_step(self) -> None:
        """What is updated or clamped after an optimiser step."""


def projection_head(width: int, widths: tuple[int, ...]) -> ProjectionHead:
    """MLP with BatchNorm and ReLU between its layers (SLIP's 4096-4096-256)."""
    layers = [
        (before, after, nn.BatchNorm1d(after), nn.ReLU(inplace=True))
        for before, after in zip((width, *widths[:-2]), widths[:-1])
    ]
    last = widths[-2] if len(widths) > 1 else width
    return ProjectionHead([*layers, (last, widths[-1], None, None)])


def projected(head: nn.Module, features: Tensor) -> Tensor:
    """[V, B, F] to [N, D] view-major, the head applied to each view on its own: BatchNorm is per view."""
    return torch.cat([head(view) for view in features])


def sample_labels(views: int, samples: int, device: torch.device) -> Tensor:
    """Labels [V * B] that are unique over processes: batch position + rank * B; each sample is its own class."""
    return (torch.arange(samples, device=device) + rank() * samples).repeat(views)
