"""Projection and prediction heads of the methods, from lightly's block."""

from typing import Literal

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

LastNorm = Literal["none", "affine", "plain"]


def mlp(
    width: int,
    widths: tuple[int, ...],
    *,
    norm: bool = True,
    last_norm: LastNorm = "none",
    last_bias: bool = True,
) -> ProjectionHead:
    """Linear layers with BatchNorm and ReLU between them.

    Args:
        width: of the input.
        widths: of the layers' outputs.
        norm: BatchNorm after the hidden layers, which then have no bias; else a bias alone.
        last_norm: what follows the last layer: nothing, BatchNorm, or BatchNorm without scale and shift.
        last_bias: the last layer has a bias where no norm follows.
    """
    layers = [
        (before, after, nn.BatchNorm1d(after) if norm else None, nn.ReLU(inplace=True))
        for before, after in zip((width, *widths[:-2]), widths[:-1])
    ]
    last = widths[-2] if len(widths) > 1 else width
    if last_norm == "none":
        return ProjectionHead([*layers, (last, widths[-1], None, None, last_bias)])
    return ProjectionHead([*layers, (last, widths[-1], nn.BatchNorm1d(widths[-1], affine=last_norm == "affine"), None)])


def each_view(head: nn.Module, features: Tensor) -> Tensor:
    """[V, B, F] to [V, B, D], the head applied to each view on its own: BatchNorm is per view."""
    return torch.stack([head(view) for view in features])


class DINOHead(nn.Module):
    """Three linear layers with GELU, L2 normalisation, and unit prototypes (DINO, appendix C).

    Args:
        width: of the input.
        widths: of the layers before the last.
        outputs: K.
    """

    def __init__(self, width: int, widths: tuple[int, ...], outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((width, *widths[:-1]), widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        # Kept apart as gain and direction, as published: both count in CLeVER's balance, the gain stays 1.
        self.gain = nn.Parameter(torch.ones(outputs, 1), requires_grad=False)
        self.direction = nn.Parameter(nn.Linear(widths[-1], outputs, bias=False).weight.detach())

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] to [N, K]."""
        return F.linear(F.normalize(self.layers(features), dim=-1), self.gain * F.normalize(self.direction, dim=-1))
