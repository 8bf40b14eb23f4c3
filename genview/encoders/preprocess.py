"""A library's inference transform in two halves: pixels where images are decoded, numbers where they are used.

Pixels are a quarter of the bytes between processes and on the way to a device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2


class Preprocess:
    """An inference transform of open_clip's or timm's, and the same cut in two; equal to the last bit on a CPU.

    Args:
        transform: from an RGB image to float32 [3, H, W]; it is cut where it ends in a conversion to a tensor and a
            normalisation, as both libraries' do, and does all of its work in the first half where it does not.
        mean, std: of that normalisation, three floats each.

    Attributes:
        least: side in pixels to which an image is first resized: a larger one need not be decoded in full. None: not
            known.
    """

    def __init__(self, transform: Any, mean: Sequence[float], std: Sequence[float]):
        self.whole, self.mean, self.std = transform, tuple(map(float, mean)), tuple(map(float, std))
        steps = list(getattr(transform, "transforms", ()))
        ends = [type(step).__name__ for step in steps[-2:]]
        self.is_cut = len(ends) == 2 and ends[0] in ("ToTensor", "MaybeToTensor") and ends[1] == "Normalize"
        self._first = v2.Compose([*steps[:-2], v2.PILToTensor()]) if self.is_cut else transform
        sizes = [step.size for step in steps if getattr(step, "size", None)]
        sides = [max(size) if isinstance(size, Sequence) else size for size in sizes]
        self.least = max(sides) if sides and all(isinstance(side, int) for side in sides) else None

    def __call__(self, image: Image.Image) -> Tensor:
        """The whole transform of an RGB image: float32 [3, S, S], normalised."""
        return self.finish(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """The first half of an RGB image: uint8 [3, S, S]; all of it, float32, where the transform is not cut."""
        return self._first(image)

    def finish(self, pixels: Tensor) -> Tensor:
        """The second half of pixels, uint8 [..., 3, H, W], on their device; what is float32 already stays as it is."""
        if pixels.dtype != torch.uint8:
            return pixels
        mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (self.mean, self.std))
        return pixels.to(torch.float32).div(255).sub_(mean).div_(std)
