"""Images and videos with masks: folders of others, and drawn ones in the same layouts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genview import randomness
from genview.data import images, names, scenes
from genview.errors import GenviewError

MASKS = ("mask", "gt", "ground_truth", "groundtruth", "ground-truth", "annotation")
"""Words by which a folder of masks is known, in any case of letters."""

DAVIS = ("JPEGImages/480p", "Annotations/480p", "ImageSets/2017/val.txt")
"""Where DAVIS 2017 keeps frames, masks, and the names of its sequences."""


@dataclass(frozen=True)
class Masked:
    """An image and its mask, as files."""

    image: Path
    mask: Path

    def open(self) -> tuple[Image.Image, np.ndarray]:
        """The RGB image, and its mask as whole numbers [height, width].

        Raises:
            GenviewError: a file cannot be read, or the two differ in size.
        """
        try:
            image = images.decode(self.image.read_bytes()).convert("RGB")
            with Image.open(self.mask) as file:
                mask = np.asarray(file if file.mode in ("P", "L", "1") else file.convert("L"))
        except (GenviewError, OSError) as error:
            raise GenviewError(f"{self.image} or its mask {self.mask.name}: {error}") from error
        if mask.shape != (image.height, image.width):
            raise GenviewError(f"{self.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, its image {image.size}")
        return image, mask.astype(np.int64)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def pairs(folder: str | Path) -> list[Masked]:
    """Images and masks of the same names, of the one folder of each that is there.

    Raises:
        GenviewError: no such folders, or more than one of a kind; an image without a mask, or the other way round.
    """
    root = Path(folder)
    if not root.is_dir():
        raise GenviewError(f"{root}: no such folder")
    inner = [path for path in _visible(root) if path.is_dir()]
    masks = [path for path in inner if any(word in path.name.lower() for word in MASKS)]
    others = [path for path in inner if path not in masks]
    if len(masks) != 1 or len(others) != 1:
        there = ", ".join(path.name for path in inner) or "none"
        raise GenviewError(
            f"{root}: needs one folder of images and one of masks, whose name holds {', '.join(MASKS)}; "
            f"there are: {there}"
        )
    found = {
        kind: {path.stem: path for path in _visible(where) if names.is_image(path.name)}
        for kind, where in (("image", others[0]), ("mask", masks[0]))
    }
    alone = sorted(found["image"].keys() ^ found["mask"].keys())
    if alone or not found["image"]:
        example = f", such as {alone[0]!r}" if alone else ""
        raise GenviewError(f"{root}: {len(alone)} names have an image or a mask alone{example}; both are needed")
    return [Masked(found["image"][name], found["mask"][name]) for name in sorted(found["image"])]


def sequences(folder: str | Path) -> dict[str, list[Masked]]:
    """The frames of each sequence, with their masks, in DAVIS 2017's own layout.

    Raises:
        GenviewError: something is missing; names it.
    """
    root = Path(folder)
    frames, masks, listed = (root / place for place in DAVIS)
    for path in (frames, masks, listed):
        if not path.exists():
            raise GenviewError(f"{path}: is missing; {root} is expected to be DAVIS 2017, as it is unpacked")
    found: dict[str, list[Masked]] = {}
    for name in listed.read_text(encoding="utf-8").split():
        if not (frames / name).is_dir():
            raise GenviewError(f"{frames / name}: is missing, but {listed} lists it")
        files = [path for path in _visible(frames / name) if names.is_image(path.name)]
        found[name] = [Masked(path, masks / name / f"{path.stem}.png") for path in files]
        missing = [frame.mask for frame in found[name] if not frame.mask.is_file()]
        if missing or len(files) < 3:
            what = f"{missing[0]} is missing" if missing else "three frames are needed"
            raise GenviewError(f"sequence {name}: {len(files)} frames, {len(missing)} without a mask: {what}")
    if not found:
        raise GenviewError(f"{listed}: lists no sequence")
    return found


def draw_pairs(folder: Path, count: int, *, seed: int, size: int) -> None:
    """Write drawn scenes and their masks as a folder of each."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        scene = scenes.scene(3_000_000_000 + index, seed=seed, size=size)
        Image.fromarray(scene.image).save(folder / "images" / f"{index:05d}.png")
        Image.fromarray(((scene.mask > 0.5) * 255).astype(np.uint8)).save(folder / "masks" / f"{index:05d}.png")


def _small(seed: int, first: int, size: int) -> Iterator[scenes.Scene]:
    """Drawn scenes whose object covers little."""
    index = first
    while True:
        scene = scenes.scene(index, seed=seed, size=size)
        if 0.05 < scene.foreground_share < 0.2:
            yield scene
        index += 1


def draw_sequences(folder: Path, count: int, *, seed: int, size: int, frames: int = 12) -> None:
    """Write drawn scenes in which two objects move on a ground at rest, in DAVIS's layout."""
    pictures, masks, listed = (folder / place for place in DAVIS)
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{number:03d}\n" for number in range(count)), encoding="utf-8")
    for number in range(count):
        name = f"{number:03d}"
        for place in (pictures, masks):
            (place / name).mkdir(parents=True)
        objects = _small(seed, 4_000_000_000 + 1000 * number, size)
        drawn = [next(objects), next(objects)]
        ground = np.array(list(scenes.BACKGROUNDS.values())[drawn[0].background_index], np.float32)
        steps = [
            [randomness.uniform("motion", seed, number, which, axis) * 0.04 * size - 0.02 * size for axis in range(2)]
            for which in range(2)
        ]
        for frame in range(frames):
            image = np.broadcast_to(ground, (size, size, 3)).copy()
            mask = np.zeros((size, size), np.uint8)
            for which, (scene, speed) in enumerate(zip(drawn, steps)):
                moved = [round(frame * each) for each in speed]
                inside, shape = _shifted(scene.mask > 0.5, moved), _shifted(scene.image, moved)
                image[inside], mask[inside] = shape[inside], which + 1
            Image.fromarray(image.astype(np.uint8)).save(pictures / name / f"{frame:05d}.jpg", quality=95)
            Image.fromarray(mask).save(masks / name / f"{frame:05d}.png")


def _shifted(values: np.ndarray, by: list[int]) -> np.ndarray:
    """Values [height, width, ...] moved by whole pixels; zeros come in."""
    moved = np.roll(values, by, axis=(0, 1))
    for axis, step in enumerate(by):
        edge = [slice(None)] * values.ndim
        edge[axis] = slice(0, step) if step > 0 else slice(values.shape[axis] + step, None)
        if step:
            moved[tuple(edge)] = 0
    return moved
