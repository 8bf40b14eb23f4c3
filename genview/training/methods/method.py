"""What a method is to the loop: a pure forward, what changes after a step, groups of parameters, what is exported.

``forward`` changes nothing but running statistics, so that the microbatches of an accumulated step, recomputation and
resuming are of no concern to a method. What it keeps from step to step (momentum networks, queues, centres) are its
parameters and buffers, changed in ``after_step`` alone, equal on all processes, and saved with every checkpoint.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from genview.config.methods import Momentum
from genview.config.training import Run
from genview.training import quality, schedule
from genview.training.data.batch import Batch
from genview.training.loop.distributed import rank
from genview.training.scoring import Scorer

Terms = dict[str, Tensor]
"""Named losses of this process's microbatch, and, as ``loss``, what is minimised."""

Residue = dict[str, Tensor]
"""What a forward pass leaves for ``after_step`` and the monitors, without gradient. The monitors know ``features``
[V, B, F], what the encoder makes of two full-size views, ``projections`` [V, B, D], what the loss compares, and
``quality``, the weights."""


class Step(NamedTuple):
    """Where a run is."""

    number: int
    """Optimiser steps done before this one."""
    total: int
    """Optimiser steps of the run."""
    per_epoch: int
    """Optimiser steps in an epoch."""
    draw: int = 0
    """Which of the method's draws."""

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.number // self.per_epoch


class ParameterGroup(NamedTuple):
    """Parameters that are treated alike."""

    name: str
    parameters: dict[str, Parameter]
    """By the name that decides on weight decay."""
    lr_scale: float = 1.0
    """Factor of the learning rate."""
    lr_fixed: bool = False
    """The learning rate stays at its peak."""
    wd_scale: float = 1.0
    """Factor of the weight decay."""


class Method(nn.Module):
    """Networks, heads and losses. All of its parameters and buffers are checkpointed.

    Attributes:
        model: the network that is trained: ``open_clip.CLIP`` or ``ImageModel``.
        scorer: the quality encoder, or None; not a part of the module.
        synchronised: whether BatchNorm looks at all processes' rows.
        draws: forward and backward passes over a microbatch, each with random numbers of its own.
    """

    synchronised = True
    draws = 1

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__()
        self.run, self.settings, self.model, self.scorer = run, run.method, model, scorer

    def prepared(self, batch: Batch) -> Batch:
        """A microbatch with what all draws need of it, computed once."""
        return batch

    def share(self, draw: int, microbatches: int) -> float:
        """Factor of a draw's loss in the gradient of a step."""
        return 1 / (self.draws * microbatches)

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """Losses of one process's microbatch, and what ``after_step`` needs of it; a function of its arguments."""
        raise NotImplementedError

    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """Change what is not changed by gradients, once after an optimiser step.

        Args:
            step: the step that was just taken.
            residues: of its microbatches, in order.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters that are trained, in groups that never change during a run."""
        return [ParameterGroup("all", trained(self))]

    def held(self, step: Step) -> Iterable[Parameter]:
        """Parameters that this step must leave as they are; their gradients are dropped before clipping."""
        return ()

    def exported(self) -> nn.Module:
        """The network that the run is for."""
        return self.model

    def record(self) -> dict[str, Any]:
        """What ``run.json`` says of the method beside its settings."""
        return {}

    def networks(self) -> Iterable[nn.Module]:
        """All networks with an image tower, each of which may be compiled on its own."""
        return [self.model]


def trained(module: nn.Module) -> dict[str, Parameter]:
    """Parameters with gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def each_size(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Features [V, B, F] of the views of each size, all views of a size together, in the order of their slots."""
    return [model.pooled(group.views.flatten(0, 1)).unflatten(0, group.views.shape[:2]) for group in batch.groups]


def first_pair(batch: Batch) -> Tensor:
    """The two full-size views of each sample [2, B, 3, S, S]: those of the first two slots."""
    return batch.groups[0].views[:2]


def pair_weights(method: Method, batch: Batch) -> Tensor | None:
    """GenView's weight of each sample's pair of full-size views [B], or None without quality weights (eq. 11-13)."""
    settings = method.settings.quality
    if settings is None:
        return None
    scored = batch.groups[0].views if settings.score_augmented else batch.groups[0].clean
    return quality.softmax_weights(
        method.scorer(scored[:2], chunk=method.run.cached_chunk).tokens,
        method.scorer.component,
        gamma=settings.gamma,
        over_all_processes=settings.scope == "global",
    )


def residue_of(features: Tensor, projections: Tensor, weights: Tensor | None) -> Residue:
    """What the monitors look at, without gradient: features [n, D], projections [n, P], weights of any shape [...]."""
    residue = {"features": features.detach(), "projections": projections.detach()}
    return residue if weights is None else {**residue, "quality": weights.detach()}


def momentum_copy(module: nn.Module) -> nn.Module:
    """A network that follows another: equal at the beginning, without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float, *, buffers: bool) -> None:
    """Move a momentum network: its parameters keep ``share`` of themselves.

    Args:
        target: the network that follows; online: the network that it follows.
        share: in [0, 1].
        buffers: take over the other's running statistics; else the target keeps its own.
    """
    parameters = list(zip(target.parameters(), online.parameters(), strict=True))
    torch._foreach_lerp_([p for p, _ in parameters], [p for _, p in parameters], 1 - share)
    if buffers:
        for own, other in zip(target.buffers(), online.buffers(), strict=True):
            own.copy_(other)


def momentum(settings: Momentum, step: float, total: int) -> float:
    """Share of itself that a momentum network keeps."""
    return schedule.momentum(step, total=total, base=settings.start, final=settings.end)


def sample_labels(views: int, samples: int, device: torch.device) -> Tensor:
    """Labels [V * B] that are unique over processes: batch position + rank * B; each sample is its own class."""
    return (torch.arange(samples, device=device) + rank() * samples).repeat(views)
