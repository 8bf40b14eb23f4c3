"""Preprocessed images of manifest rows in full batches, decoded by processes beside the encoder."""

from collections.abc import Iterator

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genview import loading, usage
from genview.data.reader import Reader
from genview.encoders.look import LoadedEncoder
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError


class Images(Dataset):
    """Rows of a manifest as pixels [3, S, S], uint8; an image that cannot be read is an error with its key."""

    def __init__(self, rows: pa.Table, reader: Reader, transform: Preprocess, least: int | None):
        self.keys, self.paths = rows["key"].to_pylist(), rows["path"].to_pylist()
        self.offsets, self.lengths = rows["offset"].to_pylist(), rows["length"].to_pylist()
        self.reader, self.transform, self.least = reader, transform, least

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Tensor | str:
        try:
            image = self.reader.image(self.paths[row], self.offsets[row], self.lengths[row], least=self.least)
            return self.transform.pixels(image)
        except GenviewError as error:
            return (
                f"image {self.keys[row]!r}: {error}; the data have changed since the manifest was made: make it again"
            )


def collate(items: list[Tensor | str]) -> Tensor | str:
    """Stack images [3, S, S] to [B, 3, S, S]; the first error, if any, stands for the batch."""
    return next((item for item in items if isinstance(item, str)), None) or torch.stack(items)


def batches(rows: pa.Table, reader: Reader, encoder: LoadedEncoder, batch_size: int, workers: int) -> Iterator[Tensor]:
    """Pixels of the rows' images, in order, uint8 [n, 3, S, S] with n <= batch_size, on the encoder's device.

    Args:
        workers: processes that decode; 0: decode between the encoder's batches.

    Raises:
        GenviewError: an image cannot be read or decoded any more; names its key.
    """
    images = Images(rows, reader, encoder.transform, encoder.least)
    if not len(images):
        return
    decoded = loading.loader(images, batch_size, workers, collate_fn=collate)
    pixels = loading.ahead(decoded, encoder.device)
    yield from usage.reading(pixels, encoder.operations, encoder.peak)


def encode_padded(encoder: LoadedEncoder, images: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Tokens [B, T, D] and embeddings [B, E] of images or pixels [B, 3, S, S], filled up to ``batch_size``.

    Matrix kernels differ with the batch's shape, and an image's bits must not depend on how many images happened to
    share its last batch.
    """
    count = len(images)
    if count < batch_size:
        images = torch.cat([images, images.new_zeros(batch_size - count, *images.shape[1:])])
    tokens, embeddings = encoder.encode(images)
    return tokens[:count], embeddings[:count]
