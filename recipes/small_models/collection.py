"""The drawn scenes as arrays, made once and kept beside the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from genview import atomic
from genview.data import scenes

# Scenes of these seeds are never drawn by a study's default seed: training and evaluation must not meet.
TRAINING_SEED = 1_000_003
UNSEEN_SEED = 2_000_003
PATCH_SIZE = 4


@dataclass(frozen=True)
class Collection:
    """Scenes as arrays: images uint8 [N, 3, H, W], patch masks float32 [N, T], attributes int64 [N, 9]."""

    images: torch.Tensor
    patch_masks: torch.Tensor
    attributes: torch.Tensor
    shares: torch.Tensor
    captions: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def column(self, name: str) -> torch.Tensor:
        """One attribute (a field name of `scenes.Attributes`) of every scene, int64 [N]."""
        return self.attributes[:, ATTRIBUTES.index(name)]

    def attribute(self, row: int) -> scenes.Attributes:
        """The attributes of one scene."""
        return scenes.Attributes(*self.attributes[row].tolist())


ATTRIBUTES = tuple(field.name for field in fields(scenes.Attributes))
CARDINALITIES = {
    "class_index": len(scenes.CLASSES),
    "colour_index": len(scenes.COLOURS),
    "texture_index": len(scenes.TEXTURES),
    "size_index": len(scenes.SIZES),
    "tilt_index": len(scenes.TILTS),
    "horizontal_index": len(scenes.HORIZONTAL_PLACES),
    "vertical_index": len(scenes.VERTICAL_PLACES),
    "background_index": len(scenes.BACKGROUNDS),
    "pattern_index": len(scenes.PATTERNS),
}


def collection(count: int, seed: int, cache: Path | None = None) -> Collection:
    """Scenes 0..count-1 of `seed`; read from or written to the folder `cache` if one is given."""
    path = cache / f"scenes-{seed}-{count}.npz" if cache else None
    if path and path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return _from_arrays(dict(stored))
    drawn = [scenes.scene(index, seed=seed) for index in range(count)]
    masks = np.stack([scene.mask for scene in drawn])
    side = masks.shape[1] // PATCH_SIZE
    arrays = {
        "images": np.ascontiguousarray(np.stack([scene.image for scene in drawn]).transpose(0, 3, 1, 2)),
        "patch_masks": masks.reshape(count, side, PATCH_SIZE, side, PATCH_SIZE).mean((2, 4)).reshape(count, -1),
        "attributes": np.array([[getattr(scene, name) for name in ATTRIBUTES] for scene in drawn]),
        "shares": np.array([scene.foreground_share for scene in drawn], np.float32),
        "captions": np.array([scene.caption for scene in drawn]),
    }
    if path:
        with atomic.writing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)
    return _from_arrays(arrays)


def _from_arrays(arrays: dict[str, np.ndarray]) -> Collection:
    return Collection(
        images=torch.from_numpy(arrays["images"]),
        patch_masks=torch.from_numpy(arrays["patch_masks"]),
        attributes=torch.from_numpy(arrays["attributes"].astype(np.int64)),
        shares=torch.from_numpy(arrays["shares"]),
        captions=arrays["captions"].tolist(),
    )


def unit_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 images as float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
