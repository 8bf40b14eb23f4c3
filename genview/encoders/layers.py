"""The layers of a model in their order: which are frozen, and how much slower the early ones learn."""

import re

import timm
from open_clip.timm_model import TimmModel
from torch import nn

from genview.config.training import RunModel
from genview.errors import GenviewError

_BEFORE_BLOCKS = ("conv1", "class_embedding", "positional_embedding", "patch_dropout", "ln_pre", "token_embedding")
_BLOCK = re.compile(r"(?:^|\.)resblocks\.(\d+)\.")


class _Trunk(nn.Module):
    """All of an open_clip image tower but its projection."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        for name, part in visual.named_children():
            self.add_module(name, part)
        for name, parameter in visual.named_parameters(recurse=False):
            if name != "proj":
                self.register_parameter(name, parameter)


def trunk_of(visual: nn.Module) -> nn.Module:
    """The image tower before its projection to the text space, as a module that shares its parameters."""
    return visual.trunk if isinstance(visual, TimmModel) else _Trunk(visual)


def depths(module: nn.Module) -> dict[str, int]:
    """Depth of each parameter of a tower by name: 0 for what comes before the first block, then 1, 2, ...

    Args:
        module: a timm model, or a tower of open_clip's own (image or text).
    """
    if hasattr(module, "group_matcher"):
        groups = timm.models.group_parameters(module, module.group_matcher(coarse=False))
        order = {key: place for place, key in enumerate(sorted(groups))}
        return {name: order[key] for key, names in groups.items() for name in names}
    found, last = {}, 0
    for name, _ in module.named_parameters():
        block = _BLOCK.search(name)
        if block:
            found[name] = int(block[1]) + 1
            last = max(last, found[name])
        elif name.split(".")[0] in _BEFORE_BLOCKS:
            found[name] = 0
        else:
            found[name] = -1
    return {name: last + 1 if depth < 0 else depth for name, depth in found.items()}


def rate_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Factor of the learning rate of each parameter of a trained model, by name: ``decay`` to the power of the layers
    that follow it in its tower; 1 for projections, the logit scale and what belongs to no tower (BEiT, app. A).

    Args:
        model: of ``encoders.build``.
        decay: 1: all learn alike.
    """
    scales = {name: 1.0 for name, _ in model.named_parameters()}
    visual = model.visual
    prefix = "visual.trunk." if isinstance(visual, TimmModel) else "visual."
    of_towers = [(prefix, depths(trunk_of(visual)))]
    text = getattr(model, "text", None)
    if text is not None:
        of_towers.append(("text.", depths(text)))
    elif hasattr(model, "transformer"):
        own = {name: value for name, value in model.named_parameters() if not name.startswith("visual.")}
        blocks = [int(found[1]) for name in own if (found := _BLOCK.search(name))]
        last = max(blocks, default=-1) + 2
        named = {}
        for name in own:
            block = _BLOCK.search(name)
            if block:
                named[name] = int(block[1]) + 1
            elif name.split(".")[0] in _BEFORE_BLOCKS:
                named[name] = 0
            elif name.startswith(("ln_final", "text_projection")):
                named[name] = last
        of_towers.append(("", named))
    for before, found in of_towers:
        deepest = max(found.values(), default=0)
        for name, depth in found.items():
            if before + name in scales:
                scales[before + name] = decay ** (deepest - depth)
    return scales


def freeze(model: nn.Module, settings: RunModel) -> None:
    """Take the gradient from what a run's ``model.freeze`` names; norms' running statistics of it go on.

    Raises:
        GenviewError: the model has no such layers.
    """
    wanted, trunk = settings.freeze, trunk_of(model.visual)
    if settings.freeze_patch_embedding or wanted.patch_embedding:
        parts = [getattr(trunk, name) for name in ("patch_embed", "conv1") if hasattr(trunk, name)]
        if not parts:
            raise GenviewError(f"model.freeze.patch_embedding: {type(trunk).__name__} has no patch embedding")
        parts[0].requires_grad_(False)
    if wanted.blocks:
        depth_of = depths(trunk)
        deepest = max(depth_of.values())
        if wanted.blocks >= deepest:
            raise GenviewError(f"model.freeze.blocks: {wanted.blocks}, but the image tower has {deepest - 1} blocks")
        for name, parameter in trunk.named_parameters():
            if depth_of.get(name, deepest) <= wanted.blocks:
                parameter.requires_grad_(False)
    if wanted.text:
        if not hasattr(model, "logit_scale"):
            raise GenviewError("model.freeze.text: the run has no text tower")
        for name, parameter in model.named_parameters():
            if not name.startswith("visual.") and not name.startswith("logit_"):
                parameter.requires_grad_(False)
