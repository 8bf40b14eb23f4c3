"""CLeVER's perturbed test images: what is done to an image is drawn from its number and the draw's, for all encoders.

The published tests draw without a seed, so that each run sees others. An image is resized and its middle is cut out
first; all tests but ``ori`` resize bilinearly, as published.
"""

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from genview import randomness
from genview.config.parts import Perturbation

MARGIN = 256 / 224
"""Shorter side of the resized image, as a multiple of the part that is cut out."""

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}

ROTATIONS: dict[Perturbation, float] = {"aug1_2": 90, "aug1_3": 180, "aug1_4_1": 90, "aug1_4_2": 90, "aug1_4_3": 90}
"""Largest angle in degrees."""

ELASTIC: dict[Perturbation, float] = {"aug1_4_1": 50.0, "aug1_4_2": 100.0, "aug1_4_3": 150.0}
"""Strength of the deformation in pixels."""


def middle(image: Image.Image, size: int, interpolation: InterpolationMode) -> Image.Image:
    """The middle square of an RGB image, ``size`` pixels wide."""
    resized = v2.functional.resize(image, [round(MARGIN * size)], interpolation=interpolation, antialias=True)
    return v2.functional.center_crop(resized, [size, size])


def steps(name: Perturbation) -> v2.Transform:
    """What a test does after the resizing; chance is torch's."""
    chain: list[v2.Transform] = []
    if name in ROTATIONS:
        chain.append(v2.RandomRotation(ROTATIONS[name]))
    elif name == "aug1":
        chain.append(v2.RandomHorizontalFlip(1.0))
    if name != "ori":
        chain.append(v2.ColorJitter(**JITTER))
    if name in ELASTIC:
        chain.append(v2.ElasticTransform(ELASTIC[name]))
    return v2.Compose(chain) if chain else v2.Identity()


class Perturbed:
    """A test as a function of an image and its number.

    Args:
        name: of the test.
        size: side of the result in pixels.
        seed: of the study.
        draw: another for each draw.
    """

    def __init__(self, name: Perturbation, size: int, *, seed: int, draw: int = 0):
        self.name, self.size, self.seed, self.draw = name, size, seed, draw
        self.steps = steps(name)

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The perturbed image number ``index`` of the test part, RGB, ``size`` pixels wide."""
        bicubic = self.name == "ori"
        cut = middle(image, self.size, InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.seed("perturbation", self.seed, self.name, index, self.draw))
            return self.steps(cut)


class Turned:
    """An image, turned by an angle that its number decides.

    Args:
        size: side of the result in pixels.
        limit: largest angle in degrees, to either side.
        seed: of the study and the part.
    """

    def __init__(self, size: int, limit: float, *, seed: int):
        self.size, self.limit, self.seed = size, limit, seed

    def angle(self, index: int) -> float:
        """The angle of image number ``index`` in degrees, counter-clockwise."""
        return self.limit * (2 * randomness.uniform("angle", self.seed, index) - 1)

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The turned image, RGB, with black corners."""
        return v2.functional.rotate(middle(image, self.size, InterpolationMode.BILINEAR), self.angle(index))
