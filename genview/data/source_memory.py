"""Sources whose images are not files of their own: drawn scenes, scikit-learn's digits, Hugging Face datasets.

Their images are written to ``images.tar`` and referred to like any others.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from genview.config.dataset import Dataset
from genview.data import scenes, source_huggingface, tars
from genview.data.listing import Listing
from genview.data.picture import Picture

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEFAULT_SCENES = 1000


def collect(dataset: Dataset, seed: int, images: Path, listing: Listing) -> None:
    """Write a source's images to the tar ``images`` and list them; paths are relative to the tar's folder.

    Raises:
        GenviewError: the Hugging Face dataset is missing, has no image column, or is a dictionary of splits.
    """
    sources = {
        "scenes": lambda: _scenes(dataset.count or DEFAULT_SCENES, seed),
        "digits": _digits,
        "huggingface": lambda: source_huggingface.pictures(dataset),
    }
    with tars.writing(images) as tar:
        for picture in sources[dataset.source]():
            if listing.full:
                break
            if picture.reason:
                listing.reject(picture.key, picture.source, picture.reason)
                continue
            offset = tar.add(f"{picture.key}.{picture.extension}", picture.data)
            listing.add(
                picture.key,
                images.name,
                picture.source,
                offset=offset,
                length=len(picture.data),
                captions=picture.captions,
                label=picture.label,
                foreground_share=picture.foreground_share,
                attributes=picture.attributes,
            )


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _scenes(count: int, seed: int) -> Iterator[Picture]:
    """The first scenes of the collection ``seed``; the key is the index."""
    colours, backgrounds = tuple(scenes.COLOURS), tuple(scenes.BACKGROUNDS)
    for index in range(count):
        scene = scenes.scene(index, seed=seed)
        attributes = {
            "index": index,
            "class": scenes.CLASSES[scene.class_index],
            "colour": colours[scene.colour_index],
            "texture": scenes.TEXTURES[scene.texture_index],
            "size": scenes.SIZES[scene.size_index],
            "tilt": scenes.TILTS[scene.tilt_index],
            "horizontal": scenes.HORIZONTAL_PLACES[scene.horizontal_index],
            "vertical": scenes.VERTICAL_PLACES[scene.vertical_index],
            "background": backgrounds[scene.background_index],
            "pattern": scenes.PATTERNS[scene.pattern_index],
            "constraints": scene.constraints,
        }
        yield Picture(
            f"{index:07d}",
            _png(scene.image),
            "png",
            f"scene {index}",
            (scene.caption,),
            attributes["class"],
            scene.foreground_share,
            json.dumps(attributes),
        )


def _digits() -> Iterator[Picture]:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8, 17 grey values spread over 8 bits."""
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import; the other sources do without

    digits = load_digits()
    for index, (pixels, target) in enumerate(zip(digits.images, digits.target)):
        grey = np.round(pixels * (255 / 16)).astype(np.uint8)
        caption = f"a handwritten digit {_DIGITS[target]}"
        yield Picture(f"{index:04d}", _png(grey), "png", f"digit {index}", (caption,), str(target))
