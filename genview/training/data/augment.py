"""What happens to each view on its own (SimCLR's augmentations with GenView++'s settings), by torchvision.

Every transform draws from its own seed: changing one leaves what the others draw as it was.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from genview.config.training import Augmentation
from genview.training.data import chance


def _blur_kernel(image_size: int) -> int:
    """Odd width of about a tenth of the image (SimCLR, appendix A)."""
    return max(image_size // 10 // 2 * 2 + 1, 3)


def _sequence(transforms: list[tuple[str, torch.nn.Module]], image, seed: int):
    for name, transform in transforms:
        # The transforms draw from this generator; torch.manual_seed would also queue seeds for GPUs, at 1 ms a call.
        torch.default_generator.manual_seed(chance.bits(seed, name))
        image = transform(image)
    return image


class Augment:
    """From an RGB image to a normalised view, by a seed.

    Args:
        settings: the configuration's block.
        image_size: side of the result in pixels.
        mean, std: normalisation of the model that is trained.

    Attributes:
        mean, std: as given.
    """

    def __init__(self, settings: Augmentation, image_size: int, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = tuple(mean), tuple(std)
        bicubic = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
        size = (image_size, image_size)
        down = [v2.Resize(side, **bicubic) for side in settings.resample_sizes]
        resample = v2.Compose([v2.RandomChoice(down), v2.Resize(settings.resample_to, **bicubic)]) if down else None
        brightness, contrast, saturation, hue = settings.jitter_strength
        jitter = v2.ColorJitter(brightness, contrast, saturation, hue)
        blur = v2.GaussianBlur(_blur_kernel(image_size), sigma=(0.1, 2.0))
        geometric = [
            ("resample", v2.RandomApply([resample], settings.resample) if resample and settings.resample else None),
            ("crop", v2.RandomResizedCrop(size, scale=(settings.minimum_area, 1.0), **bicubic)),
            ("flip", v2.RandomHorizontalFlip(settings.flip) if settings.flip else None),
        ]
        photometric = [
            ("jitter", v2.RandomApply([jitter], settings.jitter) if settings.jitter else None),
            ("grey", v2.RandomGrayscale(settings.grey) if settings.grey else None),
            ("blur", v2.RandomApply([blur], settings.blur) if settings.blur else None),
        ]
        self._geometric = [(name, transform) for name, transform in geometric if transform]
        self._photometric = [(name, transform) for name, transform in photometric if transform]
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)

    def _finished(self, image: Image.Image) -> Tensor:
        pixels = v2.functional.pil_to_tensor(image).float().div_(255)
        return pixels.sub_(self._mean).div_(self._std)

    def __call__(self, image: Image.Image, seed: int, *, clean: bool = False) -> tuple[Tensor, Tensor | None]:
        """The view, float32 [3, S, S], and with ``clean`` also the same crop before its colours were changed.

        The global generator of torch is left as it was.
        """
        with torch.random.fork_rng(devices=[]):
            crop = _sequence(self._geometric, image, seed)
            view = _sequence(self._photometric, crop, seed)
        return self._finished(view), self._finished(crop) if clean else None
