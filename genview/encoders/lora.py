"""LoRA (Hu et al. 2022, arXiv 2106.09685): the weights stay, and small matrices beside them learn.

A layer's weight W [out, in] becomes W + (alpha / rank) B A with A [rank, in] and B [out, rank], of which B begins at 0,
so that the model begins as it was. It is a parametrisation of the weight, not a module around the layer: open_clip's
attention holds the weights of queries, keys and values as one bare parameter. Before a model is written the product
is added to the weights, and what opens it needs to know nothing of it.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from genview.config.training import LowRank
from genview.errors import GenviewError

TARGETS = {
    "qkv": ("attn.qkv.weight", "attn.in_proj_weight"),
    "proj": ("attn.proj.weight", "attn.out_proj.weight"),
    "mlp": ("mlp.fc1.weight", "mlp.fc2.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
}
"""Endings of the names of weights, in timm's towers and in open_clip's own."""


class LoRA(nn.Module):
    """What is added to a weight [out, in]."""

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in use, [out, in]."""
        return weight + self.scale * (self.up @ self.down)


def adapt(model: nn.Module, settings: LowRank, *, text: bool) -> None:
    """Freeze a model and give its layers small matrices that learn; the scale of the logits learns on.

    Args:
        model: of ``encoders.build``; A is drawn from torch's generator.
        settings: rank, alpha, and which layers.
        text: adapt the text tower, too.

    Raises:
        GenviewError: the model has none of these layers, or the rank is larger than one of them.
    """
    endings = tuple(ending for target in settings.targets for ending in TARGETS[target])
    chosen = [
        name
        for name, weight in model.named_parameters()
        if name.endswith(endings) and weight.ndim == 2 and (text or name.startswith("visual."))
    ]
    if not any(name.startswith("visual.") for name in chosen):
        raise GenviewError(
            f"model.adapt: {type(model.visual).__name__} has no layers {', '.join(settings.targets)}; LoRA is for "
            "towers with linear layers, such as Vision Transformers"
        )
    model.requires_grad_(False)
    for name in chosen:
        where, _, parameter = name.rpartition(".")
        layer = model.get_submodule(where)
        weight = getattr(layer, parameter)
        if settings.rank > min(weight.shape):
            raise GenviewError(f"model.adapt.rank: {settings.rank}, but {name} is {' x '.join(map(str, weight.shape))}")
        parametrize.register_parametrization(layer, parameter, LoRA(weight, settings.rank, settings.alpha))
    if text:
        model.logit_scale.requires_grad_(True)


@torch.no_grad()
def merged(model: nn.Module) -> nn.Module:
    """The model with what was learnt added to its weights: the same outputs, the parameters that it had before."""
    if not any(map(parametrize.is_parametrized, model.modules())):
        return model
    plain = copy.deepcopy(model)
    for layer in list(plain.modules()):
        if parametrize.is_parametrized(layer):
            # Torch's own removal takes the weight from the class, which the copy shares with the model that learns on.
            weights = {name: getattr(layer, name).detach() for name in layer.parametrizations}
            del layer.parametrizations
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            for name, weight in weights.items():
                layer.register_parameter(name, nn.Parameter(weight))
    return plain
