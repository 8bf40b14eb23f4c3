"""Sources whose images are not files of their own: drawn scenes, scikit-learn's digits, Hugging Face datasets.

Their images are written to ``images.tar`` and referred to like any others.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from genview.config.dataset import Dataset
from genview.data import keys, scenes, tars
from genview.data.listing import Listing
from genview.errors import GenviewError

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEFAULT_SCENES = 1000


class Picture(NamedTuple):
    """An encoded image and what is known about it; with a reason instead of data where there is none."""

    key: str
    data: bytes | None
    extension: str
    source: str
    caption: str | None = None
    label: str | None = None
    foreground_share: float | None = None
    attributes: str | None = None
    reason: str | None = None


def collect(dataset: Dataset, seed: int, images: Path, listing: Listing) -> None:
    """Write a source's images to the tar ``images`` and list them; paths are relative to the tar's folder.

    Raises:
        GenviewError: the Hugging Face dataset is missing, has no image column, or is a dictionary of splits.
    """
    sources = {
        "scenes": lambda: _scenes(dataset.count or DEFAULT_SCENES, seed),
        "digits": _digits,
        "huggingface": lambda: _huggingface(dataset),
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
                caption=picture.caption,
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
            scene.caption,
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
        yield Picture(f"{index:04d}", _png(grey), "png", f"digit {index}", caption, str(target))


def _huggingface(dataset: Dataset) -> Iterator[Picture]:
    """Rows of a dataset saved with ``save_to_disk``; the key is the row's number, the bytes stay as they are."""
    import datasets  # takes seconds to import; the other sources do without

    try:
        rows = datasets.load_from_disk(dataset.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GenviewError(f"{dataset.path}: no dataset saved with save_to_disk: {error}") from error
    if isinstance(rows, datasets.DatasetDict):
        raise GenviewError(f"{dataset.path}: holds splits; name one: {', '.join(f'{dataset.path}/{s}' for s in rows)}")
    columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if len(columns) != 1:
        raise GenviewError(f"{dataset.path}: one column of images is needed; there are {columns}")
    rows = rows.cast_column(columns[0], datasets.Image(decode=False))
    for name, option in [(dataset.caption_column, "caption_column"), (dataset.label_column, "label_column")]:
        if option in dataset.model_fields_set and name not in rows.features:
            raise GenviewError(f"{dataset.path}: no column {name!r} ({option}); there are {list(rows.features)}")
    share_column = dataset.foreground_share_column
    if share_column and share_column not in rows.features:
        raise GenviewError(f"{dataset.path}: no column {share_column!r}; there are {list(rows.features)}")
    kept = [columns[0], *{dataset.caption_column, dataset.label_column, share_column} & set(rows.features)]
    rows = rows.select_columns(kept)
    label_feature = rows.features.get(dataset.label_column)
    for index, row in enumerate(rows):
        yield _huggingface_row(index, row, columns[0], dataset, label_feature)


def _huggingface_row(index: int, row: dict[str, Any], column: str, dataset: Dataset, label_feature: Any) -> Picture:
    key, source = f"{index:09d}", f"row {index}"
    image, label = row[column], row.get(dataset.label_column)
    share = row.get(dataset.foreground_share_column) if dataset.foreground_share_column else None
    if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
        return Picture(key, None, "", source, reason=f"{dataset.foreground_share_column!r} is no number in [0, 1]")
    if label is not None:
        label = label_feature.int2str(label) if hasattr(label_feature, "int2str") else str(label)
    caption = row.get(dataset.caption_column)
    try:
        data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    except (TypeError, OSError) as error:
        return Picture(key, None, "", source, reason=f"the image cannot be read: {error}")
    extension = Path(image["path"] or "").suffix.lower()
    extension = extension[1:] if extension in keys.EXTENSIONS else "img"
    return Picture(key, data, extension, source, str(caption) if caption is not None else None, label, share)
