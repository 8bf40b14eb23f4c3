"""From JPEG bytes to training views: decoding alone, augmentation alone, loaders of several processes; beside others'.

    python benchmarks/loader.py                  # some five minutes; writes the results
    python benchmarks/loader.py --seconds 0.2 --images 8 --workers 1 --to loader.json   # a quick look

SimCLR's augmentations at 224 px in all libraries: crop of 8 to 100 % of the area, flip, colour jitter (80 %), grey
(20 %), blur (50 %); open_clip's own training transform has a crop alone. Two views an image, which is decoded once
where the library allows it. "First half" is what a loader of GenView does where a device does the rest (design of
`genview.training.data.develop`); "whole" is all of it on the CPU. Inputs of an encoder are images that are resized and
cut for inference. All figures are per second on one core (loaders: on their processes), the fastest of three rounds,
all libraries with memory kept as GenView's jobs keep it (`genview.process.keep_freed_memory`); ratios are to lightly's
transform in the same run.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torchvision
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from genview import process
from genview.config.augmentation import Augmentation
from genview.data import images
from genview.encoders.preprocess import Preprocess
from genview.training.data.augment import Augment
from genview.training.data.develop import Developer

sys.path.insert(0, str(Path(__file__).parent))
import record

OUTPUT = record.RESULTS / "loader.json"
SIDE = 224
BATCH = 32
SIZES = {"256 x 256": (256, 256), "500 x 375": (500, 375), "1600 x 1200": (1600, 1200)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = Augmentation(
    minimum_area=0.08, jitter=0.8, jitter_strength=(0.8, 0.8, 0.8, 0.2), grey=0.2, blur=0.5, resample=0
)


def photograph(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG with the spectrum of a photograph (amplitude falls with frequency), quality 90."""
    width, height = size
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / max(size)) ** 1.2
    planes = [np.fft.irfft2(fall * np.exp(2j * np.pi * random.random(fall.shape)), (height, width)) for _ in range(3)]
    planes = [planes[0] + 0.3 * plane for plane in planes]
    pixels = np.stack([np.clip(128 + 50 * (plane - plane.mean()) / plane.std(), 0, 255) for plane in planes], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def rate(call: Callable[[Any], int], items: Sequence[Any], seconds: float) -> float:
    """What ``call`` makes of the items in a second: the best of three rounds."""
    best = 0.0
    for _ in range(3):
        made, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3:
            for item in items:
                made += call(item)
        best = max(best, made / (time.perf_counter() - start))
    return best


def opened(data: bytes) -> Image.Image:
    """Pillow's image, decoded."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.load()
    return image


class Ours:
    """Both halves of GenView's augmentation."""

    def __init__(self, whole: bool):
        self.augment, self.whole = Augment(SETTINGS, SIDE), whole
        self.developer = Developer(self.augment.steps, MEAN, STD, compile=False)

    def __call__(self, image: Image.Image, seed: int = 0) -> torch.Tensor:
        """Two views: uint8 [2, 3, S, S], or whole, float32."""
        crops, numbers = zip(*(self.augment(image, 2 * seed + view) for view in range(2)))
        pixels = torch.stack(crops)
        return self.developer(pixels, torch.stack(numbers))[0] if self.whole else pixels


def of_torchvision() -> Callable[[Image.Image], torch.Tensor]:
    """SimCLR's augmentations of torchvision's transforms v2, on tensors."""
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    steps = [
        v2.PILToTensor(),
        v2.RandomResizedCrop(SIDE, scale=(0.08, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(23, sigma=(0.1, 2.0))], p=0.5),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    one = v2.Compose(steps)
    return partial(_twice, one)


def _twice(transform: Callable[[Any], torch.Tensor], image: Image.Image) -> torch.Tensor:
    return torch.stack([transform(image), transform(image)])


def _stacked(transform: Callable[[Any], Sequence[torch.Tensor]], image: Image.Image) -> torch.Tensor:
    return torch.stack(list(transform(image)))


def transforms() -> dict[str, Callable[[Image.Image], torch.Tensor]]:
    """Each library's two views of a decoded image."""
    normalise = {"mean": list(MEAN), "std": list(STD)}
    crop = open_clip.image_transform(SIDE, is_train=True, mean=MEAN, std=STD, aug_cfg={"scale": (0.08, 1.0)})
    return {
        "genview, first half": Ours(whole=False),
        "genview, whole": Ours(whole=True),
        "lightly": partial(_stacked, SimCLRTransform(input_size=SIDE, cj_strength=1.0, normalize=normalise)),
        "torchvision v2": of_torchvision(),
        "open_clip (crop alone)": partial(_twice, crop),
    }


class Files(Dataset):
    """Images in files, each with a library's two views."""

    def __init__(self, files: Sequence[Path], transform: Callable[..., torch.Tensor], ours: bool):
        self.files, self.transform, self.ours = files, transform, ours

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        data = self.files[index].read_bytes()
        return self.transform(images.decode(data) if self.ours else opened(data))


def loaded(files: Sequence[Path], name: str, transform: Callable[..., torch.Tensor], workers: int) -> float:
    """Views a second out of a loader, its start left out: the first batch is not counted."""
    dataset = Files(files, transform, name.startswith("genview"))
    batches: Iterable[torch.Tensor] = DataLoader(dataset, BATCH, num_workers=workers, prefetch_factor=2)
    views, start = 0, 0.0
    for number, batch in enumerate(batches):
        if number == 0:
            start = time.perf_counter()
        else:
            views += batch.shape[0] * batch.shape[1]
    return views / (time.perf_counter() - start)


def measure(size: tuple[int, int], count: int, seconds: float, workers: Sequence[int]) -> dict[str, Any]:
    """All figures of one size of images."""
    data = [photograph(size, seed) for seed in range(count)]
    raw = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in data]
    decoders: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
        "genview": (images.decode, data),
        "Pillow": (opened, data),
        "torchvision": (partial(torchvision.io.decode_jpeg, mode=torchvision.io.ImageReadMode.RGB), raw),
    }
    decoded = [opened(one) for one in data]
    made = transforms()
    found: dict[str, Any] = {
        "bytes of an image": round(float(np.mean([len(one) for one in data]))),
        "images decoded a second": {
            name: rate(lambda item, call=call: bool(call(item) is not None), items, seconds)
            for name, (call, items) in decoders.items()
        },
        "views of decoded images a second": {
            name: rate(lambda image, call=call: len(call(image)), decoded, seconds) for name, call in made.items()
        },
    }
    library = open_clip.image_transform(SIDE, is_train=False, mean=MEAN, std=STD)
    half = Preprocess(library, MEAN, STD)
    inputs: dict[str, Callable[[bytes], torch.Tensor]] = {
        "genview": lambda item: half.pixels(images.decode(item)),
        "genview, fast_decode": lambda item: half.pixels(images.decode(item, least=half.least)),
        "open_clip": lambda item: library(opened(item)),
    }
    found["inputs of an encoder a second"] = {
        name: rate(lambda item, call=call: bool(call(item) is not None), data, seconds) for name, call in inputs.items()
    }
    both = {name: (images.decode if name.startswith("genview") else opened, call) for name, call in made.items()}
    found["views of JPEGs a second"] = {
        name: rate(lambda item, open_=open_, call=call: len(call(open_(item))), data, seconds)
        for name, (open_, call) in both.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(max(4 * BATCH, 2 * BATCH * max(workers))):
            files.append(Path(folder) / f"{number}.jpg")
            files[-1].write_bytes(data[number % count])
        found["views out of a loader a second"] = {
            name: {str(n): loaded(files, name, call, n) for n in workers} for name, call in made.items()
        }
    found["ratio to lightly"] = {
        part: {name: value / found[part]["lightly"] for name, value in found[part].items()}
        for part in ("views of decoded images a second", "views of JPEGs a second")
    }
    return found


def rounded(value: Any) -> Any:
    """Figures with three digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure without a loader")
    parser.add_argument("--images", type=int, default=16, help="different images of a size")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--plain-memory", action="store_true", help="free memory as processes do by default")
    parser.add_argument("--to", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.plain_memory:
        process.keep_freed_memory()
    found = {
        name: rounded(measure(size, options.images, options.seconds, options.workers)) for name, size in SIZES.items()
    }
    record.write(
        {"views": SIDE, "memory": "plain" if options.plain_memory else "kept", "batch": BATCH, "sizes": found},
        options.to,
        "torchvision",
        "lightly",
        "open_clip_torch",
        "pillow",
    )


if __name__ == "__main__":
    main()
