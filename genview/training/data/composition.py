"""Which images a sample consists of: a pure function of (seed, epoch, key) and the configuration."""

import math
from typing import NamedTuple

from genview import randomness
from genview.config.augmentation import Augmentation, RunData

ORIGINAL = None
"""Source of a slice: the original image rather than a set of views."""


class Slice(NamedTuple):
    """One augmented crop of one image of a sample."""

    source: str | None
    """Name of the view set; None: the original."""
    draw: int
    """Chooses among the set's samples of this key: the index is ``draw`` modulo their number."""
    seed: int
    """Seed of its augmentation."""


def images_per_sample(data: RunData) -> int:
    """Images of a sample, repeated originals included; with slots, the crops."""
    if data.slots:
        return sum(slot.crops for slot in data.slots)
    images = int(data.include_original) + (len(data.views) if data.choose is None else data.choose)
    return max(images, math.ceil(data.minimum_views / data.crops))


def views_per_sample(data: RunData) -> int:
    """V: images x crops, or the crops of all slots."""
    return images_per_sample(data) * data.crops


def augmentations(data: RunData) -> list[Augmentation]:
    """How each view is made, V of them."""
    if data.slots:
        return [slot for slot in data.slots for _ in range(slot.crops)]
    return [data.augmentation] * views_per_sample(data)


def _of_slots(data: RunData, seed: int, epoch: int, key: str) -> list[Slice]:
    """A slice for each crop of each slot, in their order."""
    sources = [slot.source for slot in data.slots for _ in range(slot.crops)]
    places = [place for place, source in enumerate(sources) if source == "random"]
    chosen = randomness.shuffled(places, "slot of the generated view", seed, epoch, key)[:1] if data.views else []
    slices = []
    for place, source in enumerate(sources):
        name = ORIGINAL
        if data.views and (source == "generated" or place in chosen):
            drawn = randomness.shuffled(data.views, "view set", seed, epoch, key, place)[0]
            if randomness.uniform("probability", seed, epoch, key, place) < data.views[drawn]:
                name = drawn
        # All crops of one set show the same of its images, as crops of one picture.
        draw = randomness.seed("sample", seed, epoch, key, name)
        slices.append(Slice(name, draw, randomness.seed("augmentation", seed, epoch, key, place)))
    return slices


def compose(data: RunData, seed: int, epoch: int, key: str) -> list[Slice]:
    """The slices of a sample, in the order of its views.

    Every choice has a seed of its own, named by what it is for, so that one option does not disturb the others.
    """
    if data.slots:
        return _of_slots(data, seed, epoch, key)
    names = list(data.views)
    if data.choose is not None:
        drawn = randomness.shuffled(
            [name for name in names if name not in data.always], "choice of view sets", seed, epoch, key
        )
        taken = {*data.always, *drawn[: data.choose - len(data.always)]}
        names = [name for name in names if name in taken]
    images: list[tuple[str, str | None]] = [("original", ORIGINAL)] if data.include_original else []
    for name in names:
        hit = randomness.uniform("probability", seed, epoch, key, name) < data.views[name]
        images.append((name, name if hit else ORIGINAL))
    repeats = images_per_sample(data) - len(images)
    images += [(f"original again {number}", ORIGINAL) for number in range(repeats)]
    slices = [
        (
            f"{slot} {crop}",
            Slice(
                source,
                randomness.seed("sample", seed, epoch, key, slot),
                randomness.seed("augmentation", seed, epoch, key, slot, crop),
            ),
        )
        for slot, source in images
        for crop in range(data.crops)
    ]
    places = dict(slices)
    return [places[slot] for slot in randomness.shuffled(places, "order", seed, epoch, key)]
