"""From pixels to JPEG bytes."""

import io

import numpy as np
from PIL import Image

from genview.config.views import ViewSet


def encode(pixels: np.ndarray, view: ViewSet) -> bytes:
    """JPEG of an image, uint8 [H, W, 3], at the view set's size (bicubic, as published) and quality."""
    image = Image.fromarray(pixels)
    if view.save_size and image.size != (view.save_size, view.save_size):
        image = image.resize((view.save_size, view.save_size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=view.jpeg_quality)
    return buffer.getvalue()
