"""Every image must reach the encoders as the same upright 8-bit RGB, whatever file it came in."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from genview.data import images
from genview.errors import GenviewError

COLOUR = (10, 200, 30)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (8, 5)) -> Image.Image:
    return Image.new("RGB", size, COLOUR).convert(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_becomes_rgb(kind):
    image = images.decode(encoded(plain(), kind))
    assert image.mode == "RGB" and image.size == (8, 5)
    assert np.abs(np.asarray(image).astype(int) - COLOUR).max() <= 4


def test_cmyk_keeps_its_colours():
    image = images.decode(encoded(plain("CMYK"), "JPEG", quality=100))
    assert np.abs(np.asarray(image).astype(int) - COLOUR).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[0, 0] = 255  # a mark in the stored image's top left corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.asarray(images.decode(encoded(Image.fromarray(pixels), "PNG", exif=exif)))
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert image.shape[:2] == ((6, 9) if orientation < 5 else (9, 6))
    assert image[corners[orientation]].tolist() == [255, 255, 255] and image.sum() == 3 * 255


def test_a_damaged_exif_block_counts_as_upright():
    image = images.decode(encoded(plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage"))
    assert image.size == (8, 5)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    assert images.decode(encoded(image, "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_half_transparent_black_becomes_grey():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert images.decode(encoded(image, "PNG")).getpixel((0, 0)) == (127, 127, 127)


def test_a_transparent_palette_entry_becomes_white_and_the_others_keep_their_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    decoded = images.decode(encoded(image, "PNG", transparency=0))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 200)]


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    decoded = np.asarray(images.decode(encoded(Image.fromarray(grey), "PNG")))[0, :, 0]
    assert decoded.tolist() == np.round(grey[0] / 65535 * 255).astype(int).tolist() == [0, 0, 1, 128, 255]


def test_floats_are_refused_because_they_have_no_agreed_range():
    with pytest.raises(GenviewError, match="32 bits a channel"):
        images.decode(encoded(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"))


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.decode(data).getpixel((0, 0)) == (255, 0, 0)


def test_pixels_beyond_the_limit_are_refused_before_decoding():
    data = encoded(Image.new("1", (2000, 1000)), "PNG")
    with pytest.raises(GenviewError, match=r"2000 x 1000 pixels are more than the 1999999 allowed"):
        images.decode(data, maximum_pixels=1_999_999)
    assert images.decode(data, maximum_pixels=2_000_000).size == (2000, 1000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_what_is_no_image_is_refused(data, words):
    with pytest.raises(GenviewError, match=words):
        images.decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_a_file_cut_short_at_any_place_is_refused_or_whole(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for end in range(0, int(len(data) * 0.95), max(len(data) // 40, 1)):
        with pytest.raises(GenviewError):
            images.decode(data[:end])


@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_raises_anything_else():
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (24, 24, 3), np.uint8)
    for kind in images.FORMATS:
        whole = np.frombuffer(encoded(Image.fromarray(noise), kind), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, len(damaged), 6)] = random.integers(0, 256, 6)
            try:
                assert images.decode(damaged.tobytes(), maximum_pixels=10**6).mode == "RGB"
            except GenviewError as error:
                assert str(error)


def test_a_photograph_is_decoded_at_the_smallest_scale_that_suffices():
    full = photograph((1600, 1200))
    assert images.decode(full).size == (1600, 1200)
    for least, size in ((150, (200, 150)), (224, (400, 300)), (400, (800, 600)), (700, (1600, 1200))):
        small = images.decode(full, least=least)
        assert small.size == size
        reference = images.decode(full).resize(size, Image.Resampling.BOX)
        assert np.abs(np.asarray(small, float) - np.asarray(reference, float)).mean() < 4
    asked = []
    images.decode(photograph((1600, 1200), orientation=6), least=lambda *size: asked.append(size) or 224)
    assert asked == [(1200, 1600)], "a crop is drawn on the upright image"
    buffer = io.BytesIO()
    images.decode(full).save(buffer, "PNG")
    assert images.decode(buffer.getvalue(), least=150).size == (1600, 1200)


def photograph(size, orientation=1):
    """A JPEG of smooth colours."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 512 // 2], -1)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()
