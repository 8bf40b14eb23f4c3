"""Optimisers over a method's groups of parameters, their rates and weight decays, and clipping."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from timm.optim import Lars
from torch import Tensor, nn
from torch.nn import Parameter

from genview.config.training import Optimizer
from genview.encoders import layers
from genview.training import schedule
from genview.training.methods.method import Method, ParameterGroup, trained

NEVER_DECAYED = {"pos_embed", "cls_token", "reg_token", "positional_embedding"}
"""Parameters by their own name; biases, norms and the logit scale are exempt by having at most one dimension."""


def parameters_without_decay(module: nn.Module) -> set[int]:
    """Embeddings, by ``id``: a parameter's name depends on who holds the module."""
    named = {id(p) for name, p in module.named_parameters() if name.rsplit(".", 1)[-1] in NEVER_DECAYED}
    return named | {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}


def _split(
    group: ParameterGroup, settings: Optimizer, embeddings: set[int], scales: Mapping[str, float]
) -> list[tuple[list[Parameter], bool, float]]:
    """A group's parameters that are treated alike, whether they decay, and the factor of their layer."""

    def decays(name: str, parameter: Parameter) -> bool:
        if settings.decay == "all":
            return True
        return parameter.ndim > 1 and (settings.decay == "matrices" or id(parameter) not in embeddings)

    found: dict[tuple[bool, float], list[Parameter]] = {}
    for name, parameter in group.parameters.items():
        found.setdefault((decays(name, parameter), scales.get(name, 1.0)), []).append(parameter)
    return [(found[key], *key) for key in sorted(found)]


def build(settings: Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over a method's groups, or over all that is trained of another module.

    ``adjust`` sets rates and decays before each step.
    """
    embeddings = parameters_without_decay(module)
    parts = module.parameter_groups() if isinstance(module, Method) else [ParameterGroup("all", trained(module))]
    scales = {}
    if settings.layer_decay is not None:
        of_model = layers.rate_scales(module.model, settings.layer_decay)
        scales = {f"model.{name}": scale for name, scale in of_model.items()}
    groups = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay * group.wd_scale if decayed else 0.0,
            "name": group.name,
            "lr_scale": group.lr_scale * scale,
            "lr_fixed": group.lr_fixed,
            "wd_scale": group.wd_scale if decayed else 0.0,
        }
        for group in parts
        for parameters, decayed, scale in _split(group, settings, embeddings, scales)
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    if settings.name == "lars":
        return Lars(groups, lr=0.0, momentum=settings.momentum, always_adapt=settings.adapt_all)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, fused=True)


def adjust(optimizer: torch.optim.Optimizer, settings: Optimizer, *, rate: float, peak: float, progress: float) -> None:
    """Set each group's learning rate and weight decay for a step.

    Args:
        optimizer: of ``build``.
        settings: its block.
        rate: of the schedule; peak: of the run.
        progress: share of the run that is done.
    """
    decay = settings.weight_decay
    if settings.final_weight_decay is not None:
        decay = schedule.cosine(progress, total=1.0, start=decay, end=settings.final_weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = (peak if group["lr_fixed"] else rate) * group["lr_scale"]
        group["weight_decay"] = decay * group["wd_scale"]


def gradients(parameters: Iterable[Parameter]) -> list[Tensor]:
    """The gradients that exist, in their parameters' shapes [...]."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def clip(parameters: Sequence[Parameter], settings: Optimizer) -> None:
    """Shorten gradients, together or each tensor's on its own, to the largest norm."""
    if settings.gradient_clip is None:
        return
    for part in [[parameter] for parameter in parameters] if settings.clip == "tensor" else [parameters]:
        nn.utils.clip_grad_norm_(part, settings.gradient_clip)
