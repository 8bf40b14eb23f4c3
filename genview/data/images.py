"""The one way in which bytes become pixels: upright 8-bit RGB.

- EXIF orientation is applied; an EXIF block that cannot be read counts as upright.
- CMYK, YCbCr, palettes and 1-bit images are converted to RGB; colour profiles are not applied.
- Alpha (RGBA, LA, a transparent palette entry or colour) is laid over white.
- 16 bits a channel become 8: grey values are scaled by 255 / 65535 and rounded; colour keeps the high byte, as Pillow
  does. Images of 32-bit integers or floats have no agreed range and are refused.
- Of an animation or a file with several pages the first picture is taken.
"""

import io

import numpy as np
from PIL import Image, ImageOps

from genview.errors import GenviewError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow's names of the formats that are opened; others (some run programs, such as EPS) are not."""

MAXIMUM_PIXELS = 178_956_970
"""Where Pillow begins to warn of decompression bombs: half a gigabyte at three bytes a pixel."""

MOST_PIXELS = 2 * MAXIMUM_PIXELS
"""Where Pillow refuses to open an image."""


def decode(data: bytes, *, maximum_pixels: int = MAXIMUM_PIXELS) -> Image.Image:
    """Decode an image file to upright RGB, as this module's head says.

    Args:
        data: the whole file.
        maximum_pixels: images with more pixels are refused before they are decoded.

    Raises:
        GenviewError: no image, an unknown format, damaged, cut short, or too large.
    """
    if not data:
        raise GenviewError("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise GenviewError(f"not an image in a known format ({', '.join(FORMATS)}), or its head is damaged") from error
    except Image.DecompressionBombError as error:
        raise GenviewError(f"decompression bomb: {error}") from error
    except Exception as error:  # Pillow's format readers raise whatever a damaged header leads them to
        raise GenviewError(f"the image's head is damaged: {error}") from error
    with image:
        width, height = image.size
        if width * height > maximum_pixels:
            raise GenviewError(f"{width} x {height} pixels are more than the {maximum_pixels} allowed (maximum_pixels)")
        try:
            image.load()
        except Exception as error:
            raise GenviewError(f"damaged or cut short: {error}") from error
        try:
            return _over_white(_eight_bits(_upright(image)))
        except GenviewError:
            raise
        except Exception as error:
            raise GenviewError(f"cannot be converted from {image.mode} to RGB: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about orientation
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise GenviewError(f"32 bits a channel (mode {image.mode}) have no agreed range; convert to 8 or 16 bits")
    return image


def _over_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
