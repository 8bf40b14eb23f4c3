"""Detection data in COCO's format: a folder of images and a JSON of boxes, masks and categories for each part."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from genview.data.scenes import CLASSES, scene
from genview.errors import GenviewError

PARTS = {
    "train": (("train.json", "train"), ("annotations/instances_train2017.json", "train2017")),
    "test": (("test.json", "test"), ("val.json", "val"), ("annotations/instances_val2017.json", "val2017")),
}
"""Annotations and folder of images of each part, as our own layout and COCO's name them."""


@dataclass(frozen=True)
class Annotated:
    """One image: its file, its size and its objects (COCO's annotations without crowds)."""

    path: Path
    width: int
    height: int
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class DetectionPart:
    """Images of a part and the names of their categories; label 0 is background, label i is ``categories[i - 1]``."""

    images: tuple[Annotated, ...]
    categories: tuple[str, ...]
    identifiers: tuple[int, ...]
    """COCO's own number of each category."""


def _find(folder: Path, part: str) -> tuple[Path, Path]:
    for annotations, images in PARTS[part]:
        if (folder / annotations).is_file():
            return folder / annotations, folder / images
    names = " or ".join(annotations for annotations, _ in PARTS[part])
    raise GenviewError(f"{folder}: no annotations of the {part} part there ({names})")


def read(folder: str | Path, part: str) -> DetectionPart:
    """A part, ``train`` or ``test``, of a folder in COCO's format.

    Raises:
        GenviewError: annotations or images are missing, or an annotation is wrong; names it.
    """
    table, images = _find(Path(folder), part)
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        categories = sorted(content["categories"], key=lambda category: category["id"])
        by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        known = {category["id"] for category in categories}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in by_image or annotation["category_id"] not in known:
                raise GenviewError(f"{table}: annotation {annotation.get('id')} names an unknown image or category")
            _, _, width, height = annotation["bbox"]
            # Boxes without area occur in COCO itself, and end a training with NaN.
            if width >= 1 and height >= 1 and not annotation.get("iscrowd"):
                by_image[annotation["image_id"]].append(annotation)
        found = [
            Annotated(images / image["file_name"], image["width"], image["height"], tuple(by_image[image["id"]]))
            for image in content["images"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenviewError(f"{table}: not annotations in COCO's format: {type(error).__name__}: {error}") from error
    if part == "train":  # as torchvision's reference does
        found = [image for image in found if image.objects]
    if not found:
        raise GenviewError(f"{table}: no image with an object")
    missing = [image.path for image in found if not image.path.is_file()]
    if missing:
        raise GenviewError(f"{missing[0]}: no such image ({len(missing)} of {len(found)} of {table.name} are missing)")
    names = tuple(category["name"] for category in categories)
    return DetectionPart(tuple(found), names, tuple(category["id"] for category in categories))


def write_scenes(folder: str | Path, *, train: int, test: int, seed: int, size: int = 64) -> None:
    """Drawn scenes with their masks in COCO's format, into a folder that exists: one object an image."""
    for part, count, first in (("train", train, 0), ("test", test, train)):
        images, annotations = [], []
        (Path(folder) / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            drawn = scene(first + number, seed=seed, size=size)
            name = f"{number:05d}.png"
            Image.fromarray(drawn.image).save(Path(folder) / part / name)
            mask = np.asfortranarray((drawn.mask > 0.5).astype(np.uint8))
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y = int(columns[0]), int(rows[0])
            runs = coco_mask.encode(mask)
            images.append({"id": number, "file_name": name, "width": size, "height": size})
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": drawn.class_index + 1,
                    "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
                }
            )
        categories = [{"id": place + 1, "name": name} for place, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (Path(folder) / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
