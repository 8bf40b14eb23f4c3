"""Images in COCO's format as torchvision's detectors want them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from genview import randomness
from genview.errors import GenviewError
from genview.evaluation.coco import DetectionPart


def mask_of(annotation: dict[str, Any], height: int, width: int) -> np.ndarray:
    """An annotation's mask, uint8 [height, width], of polygons or run lengths."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        runs = coco_mask.frPyObjects(shape, height, width)
    else:
        runs = shape
    return coco_mask.decode(runs)


class Detections(Dataset):
    """A part as torchvision's detectors want it: image [3, H, W] in [0, 1]; boxes, labels and masks."""

    def __init__(self, part: DetectionPart, *, flip: bool, seed: int = 0):
        self.part, self.seed, self.epoch = part, seed, 0
        steps: list[torch.nn.Module] = [v2.RandomHorizontalFlip()] if flip else []
        self.transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])

    def __len__(self) -> int:
        return len(self.part.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        annotated = self.part.images[index]
        with Image.open(annotated.path) as file:
            image = tv_tensors.Image(v2.functional.pil_to_tensor(file.convert("RGB")))
        height, width = image.shape[1:]
        if (height, width) != (annotated.height, annotated.width):
            raise GenviewError(
                f"{annotated.path}: {width} x {height} pixels, but its annotations say {annotated.width} x "
                f"{annotated.height}: boxes would lie elsewhere"
            )
        labels = {number: place + 1 for place, number in enumerate(self.part.identifiers)}
        boxes = np.array([o["bbox"] for o in annotated.objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        masks = [mask_of(o, height, width) for o in annotated.objects]
        target = {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width)),
            "labels": torch.tensor([labels[o["category_id"]] for o in annotated.objects], dtype=torch.int64),
            "masks": tv_tensors.Mask(
                torch.from_numpy(np.stack(masks) if masks else np.zeros((0, height, width), np.uint8))
            ),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.seed("augmentation", self.seed, self.epoch, index))
            return self.transform(image, target)


def collate(items: Sequence[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> tuple[list, list]:
    """Images [3, H, W] and targets as lists: they differ in size."""
    images, targets = zip(*items)
    return list(images), list(targets)
