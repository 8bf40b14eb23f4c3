"""Maps of an image tower at several strides, as detectors want them.

Convolutional towers give the maps of their stages (through timm's own feature extraction). Towers of one resolution
(Vision Transformers) give their last map at strides of 1/4, 1/2, 1 and 2 times the patch, by two deconvolutions, one,
none and a maximum over 2 x 2: the simple feature pyramid of ViTDet (Li et al., arXiv 2203.16527), without its window
attention.
"""

import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from genview.encoders import towers
from genview.errors import GenviewError

LEVELS = 4


class StagePyramid(nn.Module):
    """The last four stages of a convolutional tower.

    Attributes:
        channels: of each map, finest first.
        strides: of each map in pixels.
    """

    def __init__(self, trunk: nn.Module):
        super().__init__()
        stages = [place for place, stage in enumerate(trunk.feature_info) if stage["reduction"] >= 4][-LEVELS:]
        self.channels = [trunk.feature_info[place]["num_chs"] for place in stages]
        self.strides = [trunk.feature_info[place]["reduction"] for place in stages]
        self.maps = FeatureGetterNet(trunk, out_indices=stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H / stride, W / stride], finest first."""
        return self.maps(images)


class SimplePyramid(nn.Module):
    """Four maps made of the tokens of a tower of one resolution."""

    def __init__(self, visual: nn.Module, width: int, patch: int):
        super().__init__()
        self.visual = visual
        half, quarter = width // 2, width // 4
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, half, 2, stride=2),
                    nn.GroupNorm(1, half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, half, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.channels = [quarter, half, width, width]
        self.strides = [patch // 4, patch // 2, patch, 2 * patch]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, S, S] to maps [B, C, S / stride, S / stride], finest first."""
        seen = towers.of(self.visual).see(images, ("tokens",))
        maps = seen.tokens.transpose(1, 2).unflatten(2, seen.grid)
        return [level(maps) for level in self.levels]


def build(visual: nn.Module, image_size: int) -> StagePyramid | SimplePyramid:
    """The pyramid of a tower, which it shares and trains.

    Args:
        visual: the image part of an open_clip model, or a timm model.
        image_size: side of the square images that will come, in pixels; positions of Vision Transformers are adapted.

    Raises:
        GenviewError: the tower cannot take images of this size, or gives no maps.
    """
    tower = towers.of(visual)
    trunk = tower.trunk if isinstance(tower, towers.TimmTower) else None
    reductions = {stage["reduction"] for stage in getattr(trunk, "feature_info", ())}
    if len(reductions) > 1:
        return StagePyramid(trunk)
    if hasattr(trunk, "set_input_size"):
        trunk.set_input_size(img_size=image_size)
    example = torch.zeros(1, 3, image_size, image_size, device=next(visual.parameters()).device)
    try:
        with torch.no_grad():
            seen = tower.see(example, ("tokens",))
    except (RuntimeError, AssertionError) as error:
        raise GenviewError(
            f"image tower {type(visual).__name__}: it takes no images of {image_size} pixels ({error}); set "
            "evaluation.detection.image_size to its own"
        ) from error
    patch = image_size // seen.grid[0]
    if patch < 4 or image_size % (2 * patch):
        raise GenviewError(
            f"image tower {type(visual).__name__}: a pyramid needs patches of four pixels or more and an image_size "
            f"that is a multiple of twice the patch ({2 * patch}); it is {image_size}"
        )
    return SimplePyramid(visual, seen.tokens.shape[2], patch)


def freeze_batch_norms(module: nn.Module) -> int:
    """Replace batch norms by constants made of their statistics and parameters; returns how many there were.

    Detectors train with few images a step, of which no norm can learn its statistics (He et al., arXiv 1703.06870).
    """
    count = 0
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict({key: value for key, value in _statistics(child).items()})
            setattr(module, name, _Activated(frozen, child))
            count += 1
        else:
            count += freeze_batch_norms(child)
    return count


def _statistics(norm: nn.modules.batchnorm._BatchNorm) -> dict[str, Tensor]:
    ones = torch.ones(norm.num_features)
    return {
        "weight": ones if norm.weight is None else norm.weight.detach(),
        "bias": torch.zeros_like(ones) if norm.bias is None else norm.bias.detach(),
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
    }


class _Activated(nn.Module):
    """A frozen norm followed by what the norm that it replaces brought along (timm joins norm and activation)."""

    def __init__(self, frozen: FrozenBatchNorm2d, before: nn.Module):
        super().__init__()
        self.frozen = frozen
        self.drop = getattr(before, "drop", nn.Identity())
        self.act = getattr(before, "act", nn.Identity())

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return self.act(self.drop(self.frozen(maps)))
