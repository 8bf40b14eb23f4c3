"""From which cosine two images are copies: drawn scenes (and photographs) against their copies and against others.

Encodes images, altered copies of them and other images with the small encoder, and says how many copies and how many
others reach each threshold. Run it as

    python benchmarks/duplicate_threshold.py --photographs FOLDER --output benchmarks/results/duplicate_threshold.json
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import record
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional

from genview.config.encoders import Encoder
from genview.data import scenes
from genview.encoders import look

THRESHOLDS = (0.97, 0.98, 0.99, 0.995)


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Written again as JPEG."""

    def write(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return write


def crop(share: float) -> Callable[[Image.Image], Image.Image]:
    """The middle of the image, at its old size."""

    def cut(image: Image.Image) -> Image.Image:
        x, y = (round(side * (1 - share) / 2) for side in image.size)
        return image.crop((x, y, image.width - x, image.height - y)).resize(image.size, Image.Resampling.BICUBIC)

    return cut


def noisy(image: Image.Image) -> Image.Image:
    """Up to three grey levels of noise."""
    pixels = np.asarray(image).astype(int)
    noise = np.random.default_rng(0).integers(-3, 4, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


COPIES = {
    "JPEG, quality 95": jpeg(95),
    "JPEG, quality 75": jpeg(75),
    "noise of 3 levels": noisy,
    "twice the size": lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "brighter by 10 %": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "cropped to 95 %": crop(0.95),
    "cropped to 80 %": crop(0.8),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@torch.inference_mode()
def embeddings(encoder: look.LoadedEncoder, images: list[Image.Image]) -> torch.Tensor:
    """L2-normalised [n, E]."""
    batches = (images[start : start + 64] for start in range(0, len(images), 64))
    rows = [encoder.encode(torch.stack([encoder.preprocess(image) for image in batch]))[1] for batch in batches]
    return functional.normalize(torch.cat(rows).float(), dim=1)


def shares(cosine: torch.Tensor) -> dict[str, float]:
    """Share of the cosines from each threshold on, and the smallest and largest of them."""
    found = {f"{threshold:g}": round(float((cosine >= threshold).float().mean()), 4) for threshold in THRESHOLDS}
    return {**found, "smallest": round(float(cosine.min()), 4), "largest": round(float(cosine.max()), 4)}


def measure(encoder: look.LoadedEncoder, images: list[Image.Image], others: list[Image.Image] | None) -> dict:
    """Copies of the images, and of each image the other image that is most like it."""
    rows = embeddings(encoder, images)
    found = {
        name: shares((rows * embeddings(encoder, [copy(i) for i in images])).sum(1)) for name, copy in COPIES.items()
    }
    cosines = rows @ embeddings(encoder, others).T if others else (rows @ rows.T).fill_diagonal_(-1)
    return {"copies": found, "most alike of the others": shares(cosines.max(1).values)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder of different photographs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = look.load(Encoder(model="small/clip"))
    drawn = [Image.fromarray(scenes.scene(index, seed=42).image) for index in range(600)]
    others = [Image.fromarray(scenes.scene(2_000_000_000 + index, seed=42).image) for index in range(3000)]
    result = {"scenes": measure(encoder, drawn, others)}
    if options.photographs:
        files = sorted(p for p in options.photographs.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        result["photographs"] = measure(encoder, [Image.open(file).convert("RGB") for file in files], None)
    record.write(result, options.output, "open-clip-torch")


if __name__ == "__main__":
    main()
