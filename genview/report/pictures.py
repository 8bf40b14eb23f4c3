"""Small pictures for the page: tiles as WebP data URIs, masks over images, maps."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from genview.report.blocks import Tile

SMALL = 64
"""Images of at most this many pixels a side are enlarged by whole pixels, not smoothed."""


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The image within ``side`` x ``side`` pixels; never enlarged."""
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def tile(image: Image.Image, alt: str, label: str = "", *, side: int = 176, shown: int = 96) -> Tile:
    """A picture of at most ``side`` pixels, shown ``shown`` CSS pixels high."""
    small = max(image.size) <= SMALL
    image = fitted(image, side)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=small, quality=82, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    width = max(1, round(shown * image.width / image.height))
    return Tile(uri, alt, label, width=min(width, 2 * shown), height=shown, pixelated=small)


def grid_shape(tokens: int, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """Rows and columns of the token grid: as recorded, otherwise square.

    Raises:
        ValueError: no shape is recorded and ``tokens`` is not a square.
    """
    if height and width:
        return height, width
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens form no square grid")
    return side, side


def masked(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The image with its background (mask false, ``[h, w]``) greyed and dimmed."""
    image = image.convert("RGB")
    keep = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    grey = image.convert("L").point(lambda value: 24 + value // 4).convert("RGB")
    return Image.composite(image, grey, keep)


def heat(values: np.ndarray, low: float, high: float, side: int = 160, colours: str = "cividis") -> Image.Image:
    """A map ``[h, w]`` in colours from ``low`` to ``high``, its cells as visible squares."""
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    picture = (matplotlib.colormaps[colours](scaled)[..., :3] * 255).astype(np.uint8)
    factor = max(1, side // max(picture.shape[:2]))
    return Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1))
