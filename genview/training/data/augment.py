"""The first half of augmentation: an image is cropped, and the numbers of its other changes are drawn, by a seed.

Crops are uint8, so that little travels to the second half (``develop``), which applies the numbers on the device.
The crop is made here because it is cheap here (0.3 ms; torch's uint8 resize, antialiased), and because what is sent is
then as small as a view, whatever the size of the image. Each number is drawn by its own name: changing one setting
leaves what the others draw as it was.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genview import randomness
from genview.config.augmentation import Augmentation
from genview.training.data.develop import FIELDS, Steps

RATIOS = (3 / 4, 4 / 3)
"""Aspect ratios of crops."""
TRIES = 10
"""Crops that are drawn before the middle of the image is taken."""


def blur_radius(settings: Augmentation, side: int) -> int:
    """Of the kernel in pixels: half of about a tenth of the side (SimCLR, appendix A), unless it is given."""
    width = settings.blur_kernel or max(side // 10 // 2 * 2 + 1, 3)
    return min(width // 2, side - 1)


def crop_box(width: int, height: int, area: tuple[float, float], seed: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random resized crop (torchvision's rule, chance by name)."""
    low, high = (math.log(ratio) for ratio in RATIOS)
    for attempt in range(TRIES):
        size = width * height * (area[0] + (area[1] - area[0]) * randomness.uniform("area", seed, attempt))
        ratio = math.exp(low + (high - low) * randomness.uniform("ratio", seed, attempt))
        wide, tall = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left = int(randomness.uniform("left", seed, attempt) * (width - wide + 1))
            top = int(randomness.uniform("top", seed, attempt) * (height - tall + 1))
            return left, top, wide, tall
    shape = width / height
    wide, tall = width, height
    if shape < RATIOS[0]:
        tall = round(width / RATIOS[0])
    elif shape > RATIOS[1]:
        wide = round(height * RATIOS[1])
    return (width - wide) // 2, (height - tall) // 2, wide, tall


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)


def _resized(pixels: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return F.interpolate(pixels, size, mode=mode, antialias=True, align_corners=False)


class Augment:
    """Crops and numbers for one slot.

    Args:
        settings: the configuration's block.
        size: side of the views in pixels.

    Attributes:
        size: as given.
        steps: what the second half has to know.
    """

    def __init__(self, settings: Augmentation, size: int):
        self.settings, self.size = settings, size
        self.steps = Steps(
            rotation=settings.rotation > 0,
            jitter=settings.jitter > 0,
            grey=settings.grey > 0,
            blur=blur_radius(settings, size) if settings.blur else 0,
            solarise=settings.solarise > 0,
            elastic_alpha=settings.elastic_alpha if settings.elastic else 0.0,
            elastic_sigma=settings.elastic_sigma,
        )

    def least(self, width: int, height: int, seed: int) -> int:
        """Shorter side in pixels from which an image of this size can be decoded, so that its crop is not enlarged."""
        settings, short = self.settings, min(width, height)
        if self._resampled(seed):
            return max(*settings.resample_sizes, settings.resample_to)
        _, _, wide, tall = crop_box(width, height, (settings.minimum_area, settings.maximum_area), seed)
        return math.ceil(short * min(1.0, self.size / min(wide, tall)))

    def _resampled(self, seed: int) -> bool:
        return bool(self.settings.resample_sizes) and randomness.uniform("resample", seed) < self.settings.resample

    def crop(self, image: Image.Image, seed: int) -> Tensor:
        """The crop, uint8 [3, S, S]."""
        settings, pixels = self.settings, _pixels(image)
        if self._resampled(seed):
            smaller = randomness.choice(settings.resample_sizes, "resample size", seed)
            for side in (smaller, settings.resample_to):
                tall, wide = pixels.shape[-2:]
                short = min(tall, wide)
                pixels = _resized(pixels, (side * tall // short, side * wide // short), settings.interpolation)
        tall, wide = pixels.shape[-2:]
        area = (settings.minimum_area, settings.maximum_area)
        left, top, width, height = crop_box(wide, tall, area, seed)
        cut = pixels[..., top : top + height, left : left + width]
        if cut.shape[-2:] != (self.size, self.size):
            cut = _resized(cut, (self.size, self.size), settings.interpolation)
        return cut[0].contiguous()

    def numbers(self, seed: int) -> Tensor:
        """What the second half applies, float32 [len(FIELDS)]."""
        settings = self.settings
        brightness, contrast, saturation, hue = settings.jitter_strength

        def hit(name: str, share: float) -> float:
            return float(share > 0 and randomness.uniform(name, seed) < share)

        def between(name: str, low: float, high: float) -> float:
            return low + (high - low) * randomness.uniform(name, seed)

        found = dict.fromkeys(FIELDS, 0.0)
        found["flip"] = hit("flip", settings.flip)
        if settings.rotation:
            found["angle"] = between("angle", -settings.rotation, settings.rotation)
        if hit("elastic", settings.elastic):
            # Up to 2**24: exact in float32.
            found["elastic"] = float(1 + (randomness.seed("displacements", seed) >> 40))
        if hit("jitter", settings.jitter):
            found["jitter"] = 1.0
            order = randomness.shuffled(range(4), "order of the jitter", seed)
            found.update({f"order_{place}": float(which) for place, which in enumerate(order)})
            for name, strength in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
                found[name] = between(name, max(0.0, 1 - strength), 1 + strength)
            found["hue"] = between("hue", -hue, hue)
        found["grey"] = hit("grey", settings.grey)
        if hit("blur", settings.blur):
            found["sigma"] = between("sigma", *settings.blur_sigma)
        found["solarise"] = hit("solarise", settings.solarise)
        return torch.tensor([found[name] for name in FIELDS])

    def __call__(self, image: Image.Image, seed: int) -> tuple[Tensor, Tensor]:
        """Crop and numbers of an RGB image; a function of image and seed alone."""
        return self.crop(image, seed), self.numbers(seed)
