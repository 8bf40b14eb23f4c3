"""Image towers of open_clip and timm behind one interface: whatever is asked of an image comes from one forward pass.

Nothing is patched. B images, T tokens of width D, F features before the projection to the text space, E after it:

- ``tokens`` [B, T, D]: the tower's own last map. Vision Transformers: the last block's patch tokens after the final
  norm (``ln_post``; timm: ``norm``). Convolutional towers: the last stage's map before any norm, row by row.
- ``pooled`` [B, F]: what the tower gives before its projection.
- ``embedding`` [B, E]: what the tower gives.
- ``local`` [B, T, E]: every patch in the space of the embedding: what follows the pooling (norm, projection) is applied
  to each token alone. A tower with attention pooling (SigLIP) has no such map for a single token: its tokens go
  through norm and projection, but not through the pooling (DIVA, arXiv 2407.20171, does the same).
"""

from collections.abc import Collection
from dataclasses import dataclass

import open_clip
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from genview.config.encoders import Encoder
from genview.encoders.files import Weights
from genview.errors import GenviewError

RANDOM_SEED = 0
"""Of random weights: two loads of an encoder without weights are the same encoder."""

WANTED = ("tokens", "pooled", "embedding", "local")


@dataclass
class Seen:
    """What one forward pass gave; None where it was not asked for."""

    grid: tuple[int, int] | None = None
    """Rows and columns of the tokens."""
    tokens: Tensor | None = None
    pooled: Tensor | None = None
    embedding: Tensor | None = None
    local: Tensor | None = None


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


class TimmTower:
    """A timm model; ``head`` is open_clip's projection, where the tower is part of an open_clip model."""

    def __init__(self, trunk: nn.Module, head: nn.Module | None = None):
        self.trunk, self.head = trunk, head

    def projected(self, pooled: Tensor) -> Tensor:
        """Pooled features [B, F] as embeddings [B, E]."""
        return pooled if self.head is None else self.head(pooled)

    def see(self, images: Tensor, wanted: Collection[str]) -> Seen:
        """What is wanted of normalised images [B, 3, S, S], one of ``WANTED`` each."""
        if set(wanted) == {"pooled"} and not getattr(self.trunk, "num_classes", 0):
            return Seen(pooled=self.trunk(images))
        trunk, seen = self.trunk, Seen()
        features = trunk.forward_features(images)
        prefix = getattr(trunk, "num_prefix_tokens", 0)
        tokens, seen.grid = flatten(features, prefix, getattr(trunk, "output_fmt", "NCHW") == "NHWC")
        if "tokens" in wanted:
            seen.tokens = tokens
        if "pooled" in wanted or "embedding" in wanted:
            seen.pooled = trunk.forward_head(features, pre_logits=True)
        if "embedding" in wanted:
            seen.embedding = self.projected(seen.pooled)
        if "local" in wanted:
            seen.local = self._local(tokens, features, prefix)
        return seen

    def class_tokens(self, images: Tensor, blocks: int) -> Tensor:
        """As of `class_tokens`, [B, n F]."""
        trunk = self.trunk
        if not getattr(trunk, "has_class_token", False) or trunk.global_pool != "token":
            return self.see(images, ("pooled",)).pooled
        count = min(blocks, len(trunk.blocks))
        _, found = trunk.forward_intermediates(
            images, indices=count, return_prefix_tokens=True, norm=True, output_fmt="NLC"
        )
        return torch.cat([prefix[:, 0] for _, prefix in found], dim=-1)

    def _local(self, tokens: Tensor, features: Tensor, prefix: int) -> Tensor:
        alone = tokens.flatten(0, 1)
        if getattr(self.trunk, "attn_pool", None) is not None:
            pooled = getattr(self.trunk, "fc_norm", nn.Identity())(alone)
        elif features.ndim == 3:  # pooled by class token or by average: a sequence of one and the same token
            pooled = self.trunk.forward_head(alone[:, None].expand(-1, prefix + 1, -1), pre_logits=True)
        else:
            last = getattr(self.trunk, "output_fmt", "NCHW") == "NHWC"
            maps = alone[:, None, None] if last else alone[:, :, None, None]
            pooled = self.trunk.forward_head(maps, pre_logits=True)
        return self.projected(pooled).unflatten(0, tokens.shape[:2])


class OpenClipTower:
    """An image tower of open_clip's own: Vision Transformer or ResNet."""

    def __init__(self, visual: nn.Module):
        self.visual = visual

    def projected(self, pooled: Tensor) -> Tensor:
        """Pooled features [B, F] as embeddings [B, E]."""
        projection = self._transformer("pooled features").proj
        return pooled if projection is None else pooled @ projection

    def see(self, images: Tensor, wanted: Collection[str]) -> Seen:
        """What is wanted of normalised images [B, 3, S, S], one of ``WANTED`` each.

        Raises:
            GenviewError: the tower has no such thing: a ResNet's attention pooling projects and pools in one.
        """
        visual, seen = self.visual, Seen()
        # An attentional pooler (CoCa) has its norm behind itself, so that its patch tokens have none.
        normed = isinstance(visual, VisionTransformer) and visual.attn_pool is None
        if "pooled" in wanted:
            visual = self._transformer("pooled features before its projection")
            # open_clip skips the projection where it is None; the parameter is put back for whoever shares the tower.
            projection, visual.proj = visual.proj, None
            try:
                if set(wanted) == {"pooled"}:
                    output = visual(images)
                    return Seen(pooled=output[0] if isinstance(output, tuple) else output)
                output = visual.forward_intermediates(images, indices=1, normalize_intermediates=normed)
            finally:
                visual.proj = projection
            seen.pooled = output["image_features"]
            if "embedding" in wanted:
                seen.embedding = self.projected(seen.pooled)
        else:
            output = visual.forward_intermediates(images, indices=1, normalize_intermediates=normed)
            seen.embedding = output["image_features"]
        tokens, seen.grid = flatten(output["image_intermediates"][-1], 0, channels_last=False)
        if "tokens" in wanted:
            seen.tokens = tokens
        if "local" in wanted:
            if not normed:
                raise GenviewError(
                    f"image tower {type(self.visual).__name__}: its pooling projects and pools in one, so that single "
                    "tokens cannot be projected; use a Vision Transformer"
                )
            seen.local = self.projected(tokens)
        return seen

    def class_tokens(self, images: Tensor, blocks: int) -> Tensor:
        """As of `class_tokens`, [B, n F]."""
        visual = self._transformer("class tokens")
        if visual.attn_pool is not None or visual.pool_type != "tok":
            return self.see(images, ("pooled",)).pooled
        count = min(blocks, len(visual.transformer.resblocks))
        found = visual.forward_intermediates(
            images, indices=count, normalize_intermediates=True, output_extra_tokens=True
        )
        return torch.cat([prefix[:, 0] for prefix in found["image_intermediates_prefix"]], dim=-1)

    def pooled_width(self) -> int:
        """F, the number of pooled features."""
        visual = self._transformer("pooled features before its projection")
        return visual.output_dim if visual.proj is None else visual.proj.shape[0]

    def _transformer(self, what: str) -> VisionTransformer:
        if not isinstance(self.visual, VisionTransformer):
            raise GenviewError(
                f"image tower {type(self.visual).__name__} has no {what}; set evaluation.features.layer: embedding"
            )
        return self.visual


def of(visual: nn.Module) -> TimmTower | OpenClipTower:
    """The tower of an open_clip model's image part, or of a timm model."""
    if isinstance(visual, TimmModel):
        return TimmTower(visual.trunk, visual.head)
    return OpenClipTower(visual) if isinstance(visual, (VisionTransformer, ModifiedResNet)) else TimmTower(visual)


class Layer(nn.Module):
    """One thing of an image tower as a module: normalised images [B, 3, S, S] to ``pooled`` or ``embedding``."""

    def __init__(self, visual: nn.Module, layer: str):
        """Take the tower as it is.

        Raises:
            GenviewError: the tower has no such layer.
        """
        super().__init__()
        self.visual, self.layer = visual, layer
        if layer == "pooled":
            width(visual)

    def forward(self, images: Tensor) -> Tensor:
        """[B, F] or [B, E]."""
        if self.layer == "embedding" and not isinstance(of(self.visual), TimmTower):
            output = self.visual(images)
            return output[0] if isinstance(output, tuple) else output
        return getattr(of(self.visual).see(images, (self.layer,)), self.layer)


def class_tokens(visual: nn.Module, images: Tensor, blocks: int) -> Tensor:
    """Class tokens of a Vision Transformer's last ``blocks`` blocks, each after the final norm, side by side.

    Args:
        visual: an image tower.
        images: [B, 3, S, S], normalised.
        blocks: how many; of a tower with fewer, all of them.

    Returns:
        [B, n F], the last block's, which are the pooled features, at the end; of a tower that is not pooled by a class
        token [B, F], the pooled features.
    """
    return of(visual).class_tokens(images, blocks)


def width(visual: nn.Module) -> int:
    """F, the number of pooled features.

    Raises:
        GenviewError: the tower has none (a ResNet of open_clip's own).
    """
    tower = of(visual)
    if isinstance(tower, TimmTower):
        return tower.trunk.num_features
    return tower.pooled_width()


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
            **({} if found.quick_gelu is None else {"quick_gelu": found.quick_gelu}),
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
