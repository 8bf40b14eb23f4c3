"""Whether a dataset of the table is whole: files that its reader needs and that a half-unpacked archive lacks.

Told from names of files and the datasets' own lists, without the libraries that read them: before a study's first job.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

SHOWN = 3


def missing(name: str, root: str | Path) -> str | None:
    """What a dataset lacks, in words; None if nothing is seen to be missing, or the folder itself is.

    Args:
        name: a name of ``genview.evaluation.catalogue``.
        root: folder of torchvision's datasets.
    """
    look = _LOOKS.get(name)
    lacking = look(Path(root)) if look else None
    if lacking is None:
        return None
    first = list(islice(lacking, SHOWN + 1))
    if not first:
        return None
    return f"missing or incomplete: {', '.join(first[:SHOWN])}{', ...' if len(first) > SHOWN else ''}"


def _files(folder: Path, needed: Iterable[str]) -> Iterator[str]:
    for file in needed:
        if not (folder / file).exists():
            yield file


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return []


def _imagenet(root: Path) -> Iterator[str]:
    folder = root / "imagenet"
    if not (folder / "meta.bin").is_file() and not (folder / "ILSVRC2012_devkit_t12.tar.gz").is_file():
        yield "the devkit (ILSVRC2012_devkit_t12.tar.gz, or meta.bin made of it)"
    for part, archive in (("train", "ILSVRC2012_img_train.tar"), ("val", "ILSVRC2012_img_val.tar")):
        if not (folder / part).is_dir():
            if not (folder / archive).is_file():
                yield f"the folder {part}"
            continue
        children = [child for child in (folder / part).iterdir() if child.is_dir()]
        hidden = [child.name for child in children if child.name.startswith(".")]
        if hidden:
            yield f"order: {part}/{hidden[0]} would count as a class; remove it"
        if not children:
            yield f"class folders in {part}"


def _flowers(root: Path) -> Iterator[str]:
    folder = root / "flowers-102"
    yield from _files(folder, ("jpg", "imagelabels.mat", "setid.mat"))
    yield from _files(folder, (f"jpg/image_{number:05d}.jpg" for number in range(1, 8190)))


def _textures(root: Path) -> Iterator[str]:
    folder = root / "dtd/dtd"
    lists = [f"labels/{part}1.txt" for part in ("train", "val", "test")]
    yield from _files(folder, ("images", *lists))
    yield from _files(folder, (f"images/{line.strip()}" for name in lists for line in _lines(folder / name)))


def _pets(root: Path) -> Iterator[str]:
    folder = root / "oxford-iiit-pet"
    lists = [f"annotations/{part}.txt" for part in ("trainval", "test")]
    yield from _files(folder, ("images", *lists))
    yield from _files(folder, (f"images/{line.split()[0]}.jpg" for name in lists for line in _lines(folder / name)))


def _food(root: Path) -> Iterator[str]:
    folder = root / "food-101"
    lists = [f"meta/{part}.json" for part in ("train", "test")]
    yield from _files(folder, ("images", *lists))
    for name in lists:
        try:
            listed = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        yield from _files(folder, (f"images/{image}.jpg" for images in listed.values() for image in images))


def _aircraft(root: Path) -> Iterator[str]:
    folder = root / "fgvc-aircraft-2013b/data"
    lists = [f"images_variant_{part}.txt" for part in ("train", "val", "test")]
    yield from _files(folder, ("images", "variants.txt", *lists))
    yield from _files(folder, (f"images/{line.split()[0]}.jpg" for name in lists for line in _lines(folder / name)))


def _scenes(root: Path) -> Iterator[str]:
    folder = root / "SUN397"
    yield from _files(folder, ("ClassName.txt",))
    yield from _files(folder, (line.strip()[1:] for line in _lines(folder / "ClassName.txt")))


def _caltech(root: Path) -> Iterator[str]:
    folder = root / "caltech101"
    yield from _files(folder, ("101_ObjectCategories", "Annotations"))
    if (folder / "101_ObjectCategories").is_dir():
        for child in sorted((folder / "101_ObjectCategories").iterdir()):
            if child.name.startswith("."):
                yield f"order: 101_ObjectCategories/{child.name} would count as a class; remove it"


def _cifar(folder: str, files: tuple[str, ...]) -> Callable[[Path], Iterator[str]]:
    return lambda root: _files(root / folder, files)


_LOOKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "in1k": _imagenet,
    "in100": _imagenet,
    "flowers": _flowers,
    "dtd": _textures,
    "pets": _pets,
    "food101": _food,
    "aircraft": _aircraft,
    "sun397": _scenes,
    "caltech101": _caltech,
    "cifar10": _cifar(
        "cifar-10-batches-py", ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6)))
    ),
    "cifar100": _cifar("cifar-100-python", ("meta", "train", "test")),
}
