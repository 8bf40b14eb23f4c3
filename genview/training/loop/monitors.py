"""What tells a run that learns from one that does not, at little cost: computed where a line is logged, and only there.

Of the features of two full-size views of all processes' samples, and of the projections that the loss compares.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.training.loop.distributed import gather_detached, mean_over_processes, world_size
from genview.training.methods.method import Residue

ROWS = 512
"""Samples that are looked at, at most."""


def spread(features: Tensor) -> Tensor:
    """Standard deviation of unit features [B, D] over samples, times sqrt(D): 1 = uniform on the sphere, 0 = collapsed.

    SimSiam (arXiv 2011.10566, section 4.1), without its division by sqrt(D).
    """
    return F.normalize(features, dim=-1).var(dim=0, correction=0).sum().sqrt()


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of the singular values' shares, features [B, D] (RankMe, arXiv 2210.02885, eq. 1-2)."""
    values = torch.linalg.svdvals(features)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of two views' unit features [B, D] (Wang and Isola, arXiv 2005.10242); 0 = equal."""
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(dim=-1).mean()


def uniformity(features: Tensor) -> Tensor:
    """log of the mean of exp(-2 x squared distance) over pairs of samples, unit features [B, D] (same source)."""
    squared = F.pdist(F.normalize(features, dim=-1)).square()
    return torch.logsumexp(-2 * squared, dim=0) - math.log(max(len(squared), 1))


@torch.no_grad()
def measure(residues: Sequence[Residue], gradient_norm: Tensor | None) -> dict[str, float]:
    """The monitors of one step, equal on all processes, which must all ask for them; ``gradient_norm`` is a scalar."""
    features, projections = (_of_all(residues, name) for name in ("features", "projections"))
    values = {
        "feature_spread": spread(features[0]),
        "effective_rank": effective_rank(features[0]),
        "projection_spread": spread(projections[0]),
    }
    if len(projections) > 1:
        values["alignment"] = alignment(projections[0], projections[1])
    if projections.shape[1] > 1:
        values["uniformity"] = uniformity(projections[0])
    if gradient_norm is not None:
        values["gradient_norm"] = gradient_norm
    weights = [residue["quality"] for residue in residues if "quality" in residue]
    found = {name: float(value) for name, value in values.items()}
    if weights:
        weight = torch.cat(weights).double()
        moments = {"mean": float(weight.mean()), "square": float(weight.square().mean())}
        moments = mean_over_processes(moments, weight.device)
        found["quality_mean"] = moments["mean"]
        found["quality_spread"] = math.sqrt(max(moments["square"] - moments["mean"] ** 2, 0.0))
    return found


def _of_all(residues: Sequence[Residue], name: str) -> Tensor:
    """[V, B, D] of all processes' samples, as many of each."""
    rows = torch.cat([residue[name] for residue in residues], dim=1)[:, : max(ROWS // world_size(), 1)].float()
    return torch.stack([gather_detached(view.contiguous()) for view in rows])
