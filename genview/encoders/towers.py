"""Image towers of open_clip and timm behind one face: patch tokens and image embedding from one forward pass.

Nothing is patched. What counts as an image's tokens is the tower's own last map:

- Vision Transformers: the last block's patch tokens after the tower's final norm (``ln_post``; timm: ``norm``).
- Convolutional towers (ConvNeXt, ResNet): the last stage's map before any norm, flattened row by row.
"""

import open_clip
import timm
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from genview.config.encoders import Encoder
from genview.encoders.files import Weights

RANDOM_SEED = 0
"""Of random weights: two loads of an encoder without weights are the same encoder."""


def flatten(features: Tensor, prefix_tokens: int, channels_last: bool) -> tuple[Tensor, tuple[int, int]]:
    """A tower's last features as tokens [B, T, D], row-major, and their grid (rows, columns)."""
    if features.ndim == 3:
        tokens = features[:, prefix_tokens:]
        side = round(tokens.shape[1] ** 0.5)
        grid = (side, side) if side * side == tokens.shape[1] else (1, tokens.shape[1])
        return tokens, grid
    if not channels_last:
        features = features.permute(0, 2, 3, 1)
    return features.flatten(1, 2), (features.shape[1], features.shape[2])


class TimmTower(nn.Module):
    """A timm model; ``head`` is open_clip's projection, where the tower is part of an open_clip model."""

    def __init__(self, trunk: nn.Module, head: nn.Module | None = None):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Tokens [B, T, D], embedding [B, E], grid."""
        features = self.trunk.forward_features(images)
        prefix = getattr(self.trunk, "num_prefix_tokens", 0)
        tokens, grid = flatten(features, prefix, getattr(self.trunk, "output_fmt", "NCHW") == "NHWC")
        if self.head is None:
            return tokens, self.trunk.forward_head(features, pre_logits=True), grid
        return tokens, self.head(self.trunk.forward_head(features)), grid


class OpenClipTower(nn.Module):
    """An image tower of open_clip's own: Vision Transformer or ResNet."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Tokens [B, T, D], embedding [B, E], grid."""
        # An attentional pooler (CoCa) has its norm behind itself, so that its patch tokens have none.
        normalize = isinstance(self.visual, VisionTransformer) and self.visual.attn_pool is None
        output = self.visual.forward_intermediates(images, indices=1, normalize_intermediates=normalize)
        tokens, grid = flatten(output["image_intermediates"][-1], 0, channels_last=False)
        return tokens, output["image_features"], grid


def _seeded(build):
    """Build a model whose random weights, if any remain, are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return build()


def build_open_clip(encoder: Encoder, found: Weights, preprocess: dict) -> nn.Module:
    """The whole open_clip model, in float32 on the CPU, evaluation mode."""
    model = _seeded(
        lambda: open_clip.create_model(
            found.model,
            pretrained=str(found.file) if found.file and not found.folder else None,
            load_weights=found.file is not None,
            pretrained_text=False,
            force_image_size=encoder.image_size,
            force_preprocess_cfg=preprocess or None,
        )
    )
    return model.eval()


def build_timm(encoder: Encoder, found: Weights) -> nn.Module:
    """The timm model without its classifier, in float32 on the CPU, evaluation mode."""
    arguments = {}
    if encoder.image_size and not found.folder:
        known = timm.get_pretrained_cfg(found.model, allow_unregistered=True)
        if known is not None and known.fixed_input_size:
            arguments["img_size"] = encoder.image_size
    overlay = {"file": str(found.file)} if found.file else None
    model = _seeded(
        lambda: timm.create_model(
            found.model,
            pretrained=found.file is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=0,
            **arguments,
        )
    )
    if encoder.image_size and not arguments and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=encoder.image_size)
    return model.eval()
