"""Optimisers and what is exempt from weight decay."""

import torch
from timm.optim import Lars, param_groups_weight_decay
from torch import nn

from genview.config.training import Optimizer

NEVER_DECAYED = {"pos_embed", "cls_token", "reg_token", "positional_embedding"}
"""Parameters by their own name; biases, norms and the logit scale are exempt by having at most one dimension."""


def parameters_without_decay(module: nn.Module) -> set[str]:
    """Names of embeddings; timm adds biases, norms and scalars."""
    named = {name for name, _ in module.named_parameters() if name.rsplit(".", 1)[-1] in NEVER_DECAYED}
    embeddings = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    return named | embeddings


def build(settings: Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over the parameters that are trained; its learning rate is set before each step."""
    groups = param_groups_weight_decay(
        module, settings.weight_decay, no_weight_decay_list=parameters_without_decay(module)
    )
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    if settings.name == "lars":
        return Lars(groups, lr=0.0, momentum=settings.momentum)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, fused=True)
