"""The one way in which bytes become pixels: upright 8-bit RGB.

- EXIF orientation is applied; an EXIF block that cannot be read counts as upright.
- CMYK, YCbCr, palettes and 1-bit images are converted to RGB; colour profiles are not applied.
- Alpha (RGBA, LA, a transparent palette entry or colour) is laid over white.
- 16 bits a channel become 8: grey values are scaled by 255 / 65535 and rounded; colour keeps the high byte, as Pillow
  does. Images of 32-bit integers or floats have no agreed range and are refused.
- Of an animation or a file with several pages the first picture is taken.
- AVIF and HEIC are opened where the installed Pillow, or the package pillow-heif, can.
- Texts and colour profiles in a PNG that are larger than Pillow's limits, or damaged, say nothing about the pixels: the
  file is read without them.
"""

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from genview.errors import GenviewError

try:
    import pillow_heif
except ImportError:
    _HEIF = ()
else:
    pillow_heif.register_heif_opener()
    _HEIF = ("HEIF",)

_AVIF = ("AVIF",) if features.check("avif") else ()

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *_AVIF, *_HEIF)
"""Pillow's names of the formats that are opened; others (some run programs, such as EPS) are not."""

_CONVERT = "convert them to JPEG or PNG"
NOT_OPENED = {
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".hif", ".avifs", ".heics"), _CONVERT),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx", ".dib", ".apng", ".mpo"), _CONVERT),
    **dict.fromkeys((".psd", ".xcf", ".svg", ".eps", ".pdf", ".exr", ".hdr", ".fits", ".dcm", ".nii"), _CONVERT),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        "raw data of a camera; develop them to JPEG or PNG",
    ),
}
"""Suffixes of pictures that are refused by name, so that none is left out in silence; and what to do."""

_BOXED = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}
"""Brands of files in ISO's container."""

MAXIMUM_PIXELS = 178_956_970
"""Where Pillow begins to warn of decompression bombs: half a gigabyte at three bytes a pixel."""

MOST_PIXELS = 2 * MAXIMUM_PIXELS
"""Where Pillow refuses to open an image."""


Least = int | Callable[[int, int], int] | None
"""Pixels that both sides of a JPEG must keep, or a function of its upright width and height; None: all."""


def decode(
    data: bytes,
    *,
    maximum_pixels: int = MAXIMUM_PIXELS,
    maximum_aspect_ratio: float | None = None,
    least: Least = None,
) -> Image.Image:
    """Decode an image file to upright RGB, as this module's head says.

    Args:
        data: the whole file.
        maximum_pixels: images with more pixels are refused before they are decoded.
        maximum_aspect_ratio: so are images whose longer side is more than this many times the shorter one.
        least: pixels that both sides of a JPEG must keep when it is decoded at a half, a quarter or an eighth of its
            size, or a function of its upright width and height that says so; None: it is decoded in full.

    Raises:
        GenviewError: no image, an unknown format, damaged, cut short, too large or too thin.
    """
    if not data:
        raise GenviewError("the file is empty (0 bytes)")
    try:
        return _decoded(data, maximum_pixels, maximum_aspect_ratio, least)
    except GenviewError:
        plain = _without_texts(data)
        if plain is None:
            raise
        return _decoded(plain, maximum_pixels, maximum_aspect_ratio, least)


def _without_texts(data: bytes) -> bytes | None:
    """A PNG without texts and colour profile; None where there is nothing to leave out, or no PNG."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    kept, position, left_out = [data[:8]], 8, False
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            left_out = True
        else:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]]) if left_out else None


def _unknown(data: bytes) -> str:
    what = _BOXED.get(data[8:12]) if data[4:8] == b"ftyp" else None
    if what and what not in FORMATS and not (what == "HEIC" and _HEIF):
        remedy = "install pillow-heif, or " if what == "HEIC" else "install a Pillow that can, or "
        return f"{what}: the installed Pillow cannot open it; {remedy}convert it to JPEG or PNG"
    return f"not an image in a known format ({', '.join(FORMATS)}), or its head is damaged"


def _decoded(data: bytes, maximum_pixels: int, maximum_aspect_ratio: float | None, least: Least) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise GenviewError(_unknown(data)) from error
    except Image.DecompressionBombError as error:
        raise GenviewError(f"decompression bomb: {error}") from error
    except Exception as error:  # Pillow's format readers raise whatever a damaged header leads them to
        raise GenviewError(f"the image's head is damaged: {error}") from error
    with image:
        width, height = image.size
        if width * height > maximum_pixels:
            raise GenviewError(f"{width} x {height} pixels are more than the {maximum_pixels} allowed (maximum_pixels)")
        if maximum_aspect_ratio is not None and max(image.size) > maximum_aspect_ratio * min(image.size):
            raise GenviewError(
                f"{width} x {height} pixels: the longer side is more than {maximum_aspect_ratio:g} times the shorter "
                "(maximum_aspect_ratio)"
            )
        if least is not None and image.format in ("JPEG", "MPO"):
            side = least if isinstance(least, int) else least(*_upright_size(image))
            image.draft(None, (side, side))
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


def middle(image: Image.Image, ratio: float = 32.0) -> Image.Image:
    """The middle of an image whose longer side is more than ``ratio`` times the shorter; any other as it is.

    Preprocessing that scales the shorter side and then takes the middle gives the same, in little memory.
    """
    width, height = image.size
    if max(width, height) <= ratio * min(width, height):
        return image
    wide, high = (min(side, int(ratio * min(width, height))) for side in (width, height))
    left, top = (width - wide) // 2, (height - high) // 2
    return image.crop((left, top, left + wide, top + high))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    try:
        lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception:  # as in `_upright`
        lies = False
    return image.size[::-1] if lies else image.size


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
