"""The second half of augmentation: from cropped pixels and drawn numbers to normalised views, on any device.

The first half (``augment``) crops each image and draws its numbers; this half applies them to a whole batch at once.
Shapes are fixed, chance is in the numbers, so that it compiles to a few kernels on a GPU, and an image's view depends
on its own pixels and numbers alone. On a CPU the same functions run image by image, which suits its caches,
what makes the result the same to the last bit in every batch, and what lets a step that is not drawn be left out.

Values are float32 in [0, 1] between the steps; each step is torchvision's of the same name on such tensors.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.errors import GenviewError

FIELDS = (
    "flip",
    "angle",
    "elastic",
    "jitter",
    "order_0",
    "order_1",
    "order_2",
    "order_3",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "grey",
    "sigma",
    "solarise",
)
"""Columns of the drawn numbers. ``angle``: degrees anticlockwise; ``elastic``: seed of the displacements, 0 for none;
``order_i``: which of brightness, contrast, saturation, hue comes i-th; ``sigma``: of the blur in pixels, 0 for none;
``flip``, ``jitter``, ``grey``, ``solarise``: 0 or 1."""

_GREY = (0.2989, 0.587, 0.114)
_SIGMAS = 4
"""Standard deviations at which a blur's kernel ends: what lies beyond weighs 6e-5 in all."""


@dataclass(frozen=True)
class Steps:
    """Which steps can occur in a slot, and what is the same for all of its views.

    Attributes:
        rotation, jitter, grey, solarise: whether any view can have them.
        blur: largest radius of the kernel in pixels; 0: no blur.
        elastic_alpha: size of the displacements in pixels; 0: none. elastic_sigma: their smoothness in pixels.
        threshold: values from here on are inverted by solarise, of 1.
    """

    rotation: bool = False
    jitter: bool = True
    grey: bool = True
    blur: int = 0
    solarise: bool = False
    elastic_alpha: float = 0.0
    elastic_sigma: float = 5.0
    threshold: float = 128 / 255


def _needed(flag: Tensor) -> bool:
    """Whether to compute a step at all; on a GPU always, so that no value has to be waited for."""
    return torch.compiler.is_compiling() or flag.device.type != "cpu" or bool(flag.any())


def _where(flag: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    if not torch.compiler.is_compiling() and flag.device.type == "cpu" and len(flag) == 1:
        return changed if flag else images
    return torch.where(flag.view(-1, 1, 1, 1), changed, images)


def grey(images: Tensor) -> Tensor:
    """Luma [N, 1, S, S] of images [N, 3, S, S]."""
    red, green, blue = images.unbind(1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).unsqueeze(1)


def blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """factor * images + (1 - factor) * other, within [0, 1]; ``factor`` is [N, 1, 1, 1]."""
    return (images * factor + (1 - factor) * other).clamp_(0, 1)


def mean_grey(images: Tensor) -> Tensor:
    """Mean luma [N, 1, 1, 1]; rows first, so that the order of the sum does not depend on the number of threads."""
    return grey(images).mean(-1, keepdim=True).mean(-2, keepdim=True)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Hue turned by ``turns`` [N, 1, 1, 1] of a full circle, saturation and value kept (as through HSV)."""
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    # Which channel is the largest, as 0 or 1: arithmetic, which a CPU does in a fifth of the time of comparisons.
    is_red = (red - high).sign_().add_(1)
    is_green = (green - high).sign_().add_(1).mul_(1 - is_red)
    is_blue = (1 - is_red).sub_(is_green)
    sector = ((green - blue) * is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    sector = sector.div_(chroma.clamp(min=1e-30)).add_(is_green, alpha=2).add_(is_blue, alpha=4)
    sector = sector.add_(turns.view(-1, 1, 1) * 6)
    offsets = torch.arange(5, 0, -2, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    place = sector.unsqueeze(1) + offsets
    place = place.sub_((place * (1 / 6)).floor_().mul_(6))
    share = torch.minimum(place, 4 - place).clamp_(0, 1)
    return high.unsqueeze(1) - share.mul_(chroma.unsqueeze(1))


def jitter(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in each image's own order (torchvision's ``ColorJitter``).

    ``images`` are [B, 3, H, W], the factors and the order of each ``numbers`` [B, columns].
    """
    column = {name: numbers[:, index] for index, name in enumerate(FIELDS)}
    wanted = column["jitter"] > 0
    if not _needed(wanted):
        return images
    factors = {name: column[name].view(-1, 1, 1, 1) for name in ("brightness", "contrast", "saturation", "hue")}
    result = images
    for turn in range(4):
        which, before = column[f"order_{turn}"], result
        for number, name in enumerate(factors):
            flag = wanted & (which == number)
            if not _needed(flag):
                continue
            if name == "hue":
                changed = shift_hue(before, factors[name])
            else:
                other = 0.0 if name == "brightness" else mean_grey(before) if name == "contrast" else grey(before)
                changed = blend(before, other, factors[name])
            result = _where(flag, changed, result)
    return result


def kernels(sigma: Tensor, radius: int) -> Tensor:
    """Gaussian weights [N, 2 radius + 1] that sum to 1 and end at four standard deviations."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    spread = sigma.clamp(min=1e-3).unsqueeze(1)
    weights = torch.exp(-0.5 * (distance / spread).square()) * (distance.abs() <= (spread * _SIGMAS).ceil())
    return weights / weights.sum(1, keepdim=True)


def _along(images: Tensor, weights: Tensor, dim: int, radius: int) -> Tensor:
    """Weighted sum of shifted copies along a dimension; mirrored at the edges, the edge itself not repeated."""
    padding = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    padded, side = F.pad(images, padding, mode="reflect"), images.shape[dim]
    weights = weights.view(len(weights), -1, 1, 1, 1)
    total = padded.narrow(dim, radius, side) * weights[:, radius]
    pair = torch.empty_like(total)
    for distance in range(1, radius + 1):
        torch.add(padded.narrow(dim, radius - distance, side), padded.narrow(dim, radius + distance, side), out=pair)
        total.addcmul_(pair, weights[:, radius + distance])
    return total


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Separable Gaussian blur; ``sigma`` [N] in pixels, images whose sigma is 0 as they were."""
    flag = sigma > 0
    if not _needed(flag):
        return images
    if not torch.compiler.is_compiling() and sigma.device.type == "cpu":
        # The weights beyond are 0: leaving them out changes nothing.
        radius = min(radius, int((sigma.max() * _SIGMAS).ceil()))
    weights = kernels(sigma, radius)
    return _where(flag, _along(_along(images, weights, -1, radius), weights, -2, radius), images)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotation about the centre, anticlockwise, nearest pixel, black where nothing was; ``degrees`` [N]."""
    flag = degrees != 0
    if not _needed(flag):
        return images
    radians = torch.deg2rad(degrees)
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    matrices = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return _where(flag, F.grid_sample(images, grid, "nearest", "zeros", align_corners=False), images)


def noise(seeds: Tensor, count: int) -> Tensor:
    """Numbers [N, count] in [-1, 1) that depend on seed and place alone, the same on every device (a 32-bit hash)."""
    mask = 0xFFFFFFFF
    mixed = torch.arange(count, device=seeds.device) + seeds.to(torch.int64).unsqueeze(1) * 0x9E3779B1
    mixed = mixed & mask
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & mask
    mixed = mixed ^ (mixed >> 16)
    return (mixed >> 8).float() / 2.0**23 - 1


def displacements(seeds: Tensor, side: int, alpha: float, sigma: float) -> Tensor:
    """Smooth displacements [N, S, S, 2] (x, y), in halves of the image's side (Simard et al. 2003)."""
    radius = int(8 * sigma + 1) // 2
    drawn = noise(seeds, 2 * side * side).view(-1, 2, side, side)
    weights = kernels(torch.full((len(seeds),), float(sigma), device=seeds.device), radius)
    return (_along(_along(drawn, weights, -1, radius), weights, -2, radius) * (alpha / side)).permute(0, 2, 3, 1)


def elastic(images: Tensor, seeds: Tensor, alpha: float, sigma: float) -> Tensor:
    """Elastic deformation of images [B, 3, H, W], bilinear, black where nothing was; seeds [B], 0 for none."""
    flag = seeds > 0
    if not _needed(flag):
        return images
    side = images.shape[-1]
    places = (torch.arange(side, device=images.device, dtype=images.dtype) * 2 + 1) / side - 1
    identity = torch.stack([places.expand(side, side), places.unsqueeze(1).expand(side, side)], -1)
    grid = identity + displacements(seeds, side, alpha, sigma)
    return _where(flag, F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False), images)


def develop(
    pixels: Tensor, numbers: Tensor, steps: Steps, mean: Tensor, std: Tensor, *, clean: bool
) -> tuple[Tensor, Tensor | None]:
    """Views from crops.

    Args:
        pixels: uint8 [N, 3, S, S].
        numbers: float32 [N, len(FIELDS)].
        steps: which steps can occur.
        mean, std: normalisation [3, 1, 1].
        clean: also give the views before their colours were changed.

    Returns:
        float32 [N, 3, S, S], normalised; and the same before jitter, grey, blur and solarise, or None.
    """
    column = {name: numbers[:, index] for index, name in enumerate(FIELDS)}
    images = pixels.float() / 255
    flipped = column["flip"] > 0
    if _needed(flipped):
        images = _where(flipped, images.flip(-1), images)
    if steps.rotation:
        images = rotate(images, column["angle"])
    if steps.elastic_alpha:
        images = elastic(images, column["elastic"], steps.elastic_alpha, steps.elastic_sigma)
    crops = images
    if steps.jitter:
        images = jitter(images, numbers)
    if steps.grey and _needed(column["grey"] > 0):
        images = _where(column["grey"] > 0, grey(images).expand_as(images), images)
    if steps.blur:
        images = blur(images, column["sigma"], steps.blur)
    if steps.solarise and _needed(column["solarise"] > 0):
        images = _where(column["solarise"] > 0, torch.where(images >= steps.threshold, 1 - images, images), images)
    return (images - mean) / std, (crops - mean) / std if clean else None


def union(steps: Sequence[Steps]) -> Steps:
    """Steps of views that are developed together; those that a view did not draw leave it as it is."""
    deforming = {(one.elastic_alpha, one.elastic_sigma) for one in steps if one.elastic_alpha} or {(0.0, 5.0)}
    radii = {one.blur for one in steps if one.blur} or {0}
    if len(deforming) > 1 or len(radii) > 1:
        raise GenviewError("data.slots: slots of one size differ in blur_kernel, elastic_alpha or elastic_sigma")
    (elastic_alpha, elastic_sigma), radius = deforming.pop(), radii.pop()
    return Steps(
        rotation=any(one.rotation for one in steps),
        jitter=any(one.jitter for one in steps),
        grey=any(one.grey for one in steps),
        blur=radius,
        solarise=any(one.solarise for one in steps),
        elastic_alpha=elastic_alpha,
        elastic_sigma=elastic_sigma,
    )


@functools.cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor | None]]:
    """``develop``, compiled. The compiler takes seconds to import: only where it is used."""
    return torch.compile(develop, dynamic=False)


@functools.cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)


class Developer:
    """``develop`` for one slot's settings and normalisation, on the device of the pixels.

    Args:
        steps: which steps can occur.
        mean, std: normalisation of the model that is trained, three floats each.
        clean: also give the views before their colours were changed.
        compile: compile it for a GPU; takes about half a minute at the first batch of a size.
    """

    def __init__(
        self, steps: Steps, mean: Sequence[float], std: Sequence[float], *, clean: bool = False, compile: bool = True
    ):
        self.steps, self.clean, self.compile = steps, clean, compile
        self.mean, self.std = tuple(mean), tuple(std)

    @torch.no_grad()
    def __call__(self, pixels: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        """Views, and the clean ones where wanted, float32 [..., 3, S, S], of pixels uint8 [..., 3, S, S]."""
        shape = pixels.shape
        pixels, numbers = pixels.reshape(-1, *shape[-3:]), numbers.reshape(-1, numbers.shape[-1])
        mean, std = (_constant(values, pixels.device) for values in (self.mean, self.std))
        if pixels.device.type == "cpu":
            made = [develop(one, its, self.steps, mean, std, clean=self.clean) for one, its in
                    zip(pixels.split(1), numbers.split(1))]  # fmt: skip
            views = torch.cat([view for view, _ in made])
            clean = torch.cat([crop for _, crop in made]) if self.clean else None
        else:
            function = _compiled() if self.compile else develop
            views, clean = function(pixels, numbers, self.steps, mean, std, clean=self.clean)
        return views.view(shape), None if clean is None else clean.view(shape)
