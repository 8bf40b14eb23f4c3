"""VMamba-Tiny: a pyramid of state-space blocks that scan the map in four directions (arXiv 2401.10166), plain PyTorch.

timm has no such model. It is registered there under the name ``vmamba_tiny``, so that a run names it as any of timm's;
whoever loads its weights elsewhere needs this file, or imports it and asks timm.

Shapes: B images, C channels, H x W positions, L = H * W, K = 4 directions, N = 1 state, R the rank of the step size.
"""

import math
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, Mlp, trunc_normal_
from timm.models import register_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Scan = Literal["associative", "loop"]

DIRECTIONS = 4


def loop_scan(decay: Tensor, update: Tensor) -> Tensor:
    """The recurrence h[t] = decay[t] * h[t - 1] + update[t], h[-1] = 0, one step after the other; [..., L]."""
    state = torch.zeros_like(update[..., 0])
    states = []
    for a, b in zip(decay.unbind(-1), update.unbind(-1)):
        state = a * state + b
        states.append(state)
    return torch.stack(states, dim=-1)


def _paired_scan(decay: Tensor, update: Tensor) -> Tensor:
    """The same states in log2(L) rounds: neighbours are combined, half the length is scanned, the rest filled in.

    No division by products of decays, which underflow.
    """
    length = update.shape[-1]
    if length == 1:
        return update
    even = slice(0, length - length % 2, 2)
    first, second = decay[..., even], decay[..., 1::2]
    odd_states = _paired_scan(first * second, torch.addcmul(update[..., 1::2], second, update[..., even]))
    states = torch.empty_like(update)
    states[..., 1::2] = odd_states
    states[..., 0] = update[..., 0]
    if length > 2:
        before = odd_states[..., : (length - 1) // 2]
        states[..., 2::2] = torch.addcmul(update[..., 2::2], decay[..., 2::2], before)
    return states


class _AssociativeScan(torch.autograd.Function):
    """Keeps decays and states only: the gradient of the recurrence is the recurrence run backwards."""

    @staticmethod
    def forward(ctx, decay: Tensor, update: Tensor) -> Tensor:
        states = _paired_scan(decay, update)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        # h[t] reaches the loss by itself and by h[t + 1], which is decay[t + 1] * h[t] and more.
        following = F.pad(decay[..., 1:], (0, 1))
        of_update = _paired_scan(following.flip(-1), gradient.flip(-1)).flip(-1)
        return of_update * F.pad(states[..., :-1], (1, 0)), of_update


def associative_scan(decay: Tensor, update: Tensor) -> Tensor:
    """The recurrence of `loop_scan` in log2(L) rounds: same shapes [..., L], values up to rounding, and gradients."""
    return _AssociativeScan.apply(decay, update)


SCANS = {"associative": associative_scan, "loop": loop_scan}


def four_directions(maps: Tensor) -> Tensor:
    """[B, C, H, W] as sequences [B, 4, C, L]: by rows, by columns, and both from their end."""
    rows, columns = maps.flatten(2), maps.transpose(2, 3).flatten(2)
    forward = torch.stack([rows, columns], dim=1)
    return torch.cat([forward, forward.flip(-1)], dim=1)


def merged(sequences: Tensor, height: int, width: int) -> Tensor:
    """[B, 4, C, L] back on the map and added up: [B, C, H, W]."""
    forward = sequences[:, :2] + sequences[:, 2:].flip(-1)
    rows = forward[:, 0].unflatten(-1, (height, width))
    columns = forward[:, 1].unflatten(-1, (width, height)).transpose(2, 3)
    return rows + columns


class SS2D(nn.Module):
    """Two-dimensional selective scan with one state a channel, without a gate (VMamba, section 4)."""

    def __init__(self, channels: int, scan: Scan = "associative"):
        super().__init__()
        self.scan = SCANS[scan]
        self.rank = math.ceil(channels / 16)
        self.in_projection = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.selection = nn.Parameter(torch.empty(DIRECTIONS, self.rank + 2, channels))
        """From a position's channels to the step size's R factors, B and C."""
        self.step_weight = nn.Parameter(torch.empty(DIRECTIONS, channels, self.rank))
        self.step_bias = nn.Parameter(torch.empty(DIRECTIONS, channels))
        self.log_decay = nn.Parameter(torch.zeros(DIRECTIONS, channels))
        """A = -exp(log_decay); with one state it starts at -1."""
        self.skip = nn.Parameter(torch.ones(DIRECTIONS, channels))
        self.norm = LayerNorm2d(channels)
        self.out_projection = nn.Conv2d(channels, channels, 1, bias=False)
        self._initialise(channels)

    def _initialise(self, channels: int) -> None:
        """Mamba's: step sizes start log-uniform in .001 .. .1, which the bias reaches through softplus."""
        nn.init.uniform_(self.selection, -(channels**-0.5), channels**-0.5)
        nn.init.uniform_(self.step_weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            low, high = math.log(1e-3), math.log(1e-1)
            steps = torch.exp(torch.rand_like(self.step_bias) * (high - low) + low).clamp(min=1e-4)
            self.step_bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape; the recurrence in float32 (float64 for float64) whatever the autocast."""
        height, width = maps.shape[2:]
        maps = F.silu(self.depthwise(self.in_projection(maps)))
        inputs = four_directions(maps)
        chosen = torch.einsum("bkcl,krc->bkrl", inputs, self.selection.to(inputs.dtype))
        factors, entry, exit_ = chosen.split([self.rank, 1, 1], dim=2)
        steps = torch.einsum("bkrl,kcr->bkcl", factors, self.step_weight.to(inputs.dtype))
        with torch.autocast(maps.device.type, enabled=False):
            inputs, steps, entry, exit_ = (
                value if value.dtype == torch.float64 else value.float() for value in (inputs, steps, entry, exit_)
            )
            steps = F.softplus(steps + self.step_bias[..., None].to(steps.dtype))
            decay = torch.exp(steps * -torch.exp(self.log_decay)[..., None].to(steps.dtype))
            states = self.scan(decay, steps * entry * inputs)
            outputs = states * exit_ + self.skip[..., None].to(inputs.dtype) * inputs
            outputs = merged(outputs, height, width)
        return self.out_projection(self.norm(outputs.to(maps.dtype)))


class Block(nn.Module):
    """x + SS2D(norm x), then x + MLP(norm x)."""

    def __init__(self, channels: int, drop_path: float, scan: Scan):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.mixer = SS2D(channels, scan)
        self.mlp = Mlp(channels, 4 * channels, act_layer=nn.GELU, use_conv=True)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        maps = maps + self.drop_path(self.mixer(self.norm1(maps)))
        return maps + self.drop_path(self.mlp(self.norm2(maps)))


class VMamba(nn.Module):
    """An image tower with timm's interface: `forward_features`, `forward_head`, `num_features`.

    The defaults are VMamba-Tiny as CLeVER uses it: 29.5 million parameters, 4.84 billion multiplications at 224 px.
    """

    num_prefix_tokens = 0
    num_classes = 0
    global_pool = "avg"
    output_fmt = "NCHW"

    def __init__(
        self,
        widths: tuple[int, ...] = (96, 192, 384, 768),
        depths: tuple[int, ...] = (2, 2, 8, 2),
        drop_path_rate: float = 0.2,
        scan: Scan = "associative",
    ):
        """Make the tower with random weights.

        Args:
            widths: channels of each stage; each halves the map of the one before.
            depths: blocks of each stage.
            drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
            scan: ``associative`` (log2(L) rounds) or ``loop`` (L steps); equal up to rounding.
        """
        super().__init__()
        self.num_features, self.recomputes = widths[-1], False
        self.pretrained_cfg = {
            "input_size": (3, 224, 224),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "interpolation": "bicubic",
            "crop_pct": 0.875,
        }
        half = partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
        self.stem = nn.Sequential(
            half(3, widths[0] // 2),
            LayerNorm2d(widths[0] // 2),
            nn.GELU(),
            half(widths[0] // 2, widths[0]),
            LayerNorm2d(widths[0]),
        )
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.stages = nn.ModuleList()
        for number, (width, depth) in enumerate(zip(widths, depths)):
            before = sum(depths[:number])
            layers: list[nn.Module] = []
            if number:
                layers += [half(widths[number - 1], width), LayerNorm2d(width)]
            layers += [Block(width, rate, scan) for rate in rates[before : before + depth]]
            self.stages.append(nn.Sequential(*layers))
        self.norm = LayerNorm2d(self.num_features)
        self.apply(_initialise)

    @property
    def default_cfg(self) -> dict[str, Any]:
        """Input size and normalisation, as timm calls them."""
        return self.pretrained_cfg

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """There is no classifier, and the pooling is the mean.

        Raises:
            ValueError: another one is asked for.
        """
        if num_classes or global_pool not in (None, "avg"):
            raise ValueError(f"vmamba_tiny has no classifier and pools by the mean, not by {global_pool!r}")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        self.recomputes = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Groups of parameters in the order of the layers, as timm's models have them."""
        blocks = [(r"^stages\.(\d+)", None)] if coarse else [(r"^stages\.(\d+)\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": [*blocks, (r"^norm", (99999,))]}

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to the last stage's map [B, C, S / 32, S / 32], before the final norm."""
        maps = self.stem(images)
        for layer in (layer for stage in self.stages for layer in stage.children()):
            maps = checkpoint(layer, maps, use_reentrant=False) if self.recomputes and self.training else layer(maps)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = True) -> Tensor:
        """The map, normalised and averaged over positions: [B, C]."""
        return self.norm(maps).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to features [B, C]."""
        return self.forward_head(self.forward_features(images))


def _initialise(module: nn.Module) -> None:
    """Linear maps (1 x 1 convolutions) truncated normal of .02, as in ViTs; other convolutions keep torch's own."""
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model
def vmamba_tiny(pretrained: bool = False, **options: Any) -> VMamba:
    """VMamba-Tiny for ``timm.create_model``; there are no pretrained weights.

    Raises:
        ValueError: pretrained weights or a classifier are asked for.
    """
    if pretrained:
        raise ValueError("vmamba_tiny: there are no pretrained weights")
    own = {name: options[name] for name in ("drop_path_rate", "scan") if name in options}
    tower = VMamba(**own)
    tower.reset_classifier(options.get("num_classes", 0) or 0, options.get("global_pool"))
    return tower
