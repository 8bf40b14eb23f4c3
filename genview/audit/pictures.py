"""Originals and their views are decoded once, by processes beside the encoders; what is measured of them is kept."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from genview import loading, progress, usage
from genview.audit import measures
from genview.audit.pairs import Pair
from genview.data.reader import Reader
from genview.encoders import loader
from genview.encoders.look import LoadedEncoder
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError

SCENE = 32
"""Side in pixels of the images that the judge of drawn scenes takes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A pair whose pictures could be read, and what was measured of them.

    Attributes:
        vectors: embeddings float32 [1 + samples, E] of the original and its first samples, by encoder.
        deviation: of the pixels among the samples (`measures.pixel_deviation`); None: not asked for.
        scenes: uint8 [1 + all samples, 32, 32, 3] for the judge; None: not asked for.
    """

    pair: Pair
    vectors: Mapping[str, np.ndarray]
    deviation: float | None
    scenes: np.ndarray | None


@dataclass(frozen=True)
class _Decoded:
    """A pair's pictures: pixels uint8 [1 + samples, 3, S, S] by encoder, and what needs no encoder."""

    pair: Pair
    pixels: Mapping[str, Tensor]
    deviation: float | None
    scenes: np.ndarray | None


@dataclass(frozen=True)
class _Unreadable:
    pair: Pair
    why: str


@dataclass(frozen=True)
class _Batch:
    """Pairs, and their pixels in one tensor [n * (1 + samples), 3, S, S] for each encoder."""

    decoded: Sequence[_Decoded]
    pixels: Mapping[str, Tensor]
    unreadable: Sequence[_Unreadable]

    def __len__(self) -> int:
        return max(map(len, self.pixels.values()), default=0)

    def map(self, change: Callable[[Tensor], Tensor]) -> "_Batch":
        return replace(self, pixels={name: change(pixels) for name, pixels in self.pixels.items()})

    def pin_memory(self) -> "_Batch":
        return self.map(Tensor.pin_memory)


class _Pictures(Dataset):
    """Pairs, decoded in full."""

    def __init__(
        self, pairs: Sequence[Pair], reader: Reader, transforms: Mapping[str, Preprocess], samples: int, scenes: bool
    ):
        self.pairs, self.reader, self.transforms = pairs, reader, transforms
        self.samples, self.scenes = samples, scenes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> _Decoded | _Unreadable | str:
        """A pair; one whose original cannot be read; what is wrong with a view."""
        pair = self.pairs[row]
        try:
            pictures = [self.reader.image(*pair.original)]
        except GenviewError as error:
            return _Unreadable(pair, str(error))
        try:
            pictures += [self.reader.image(*place) for place in pair.views]
        except GenviewError as error:
            return f"a view of {pair.key!r}: {error}"
        return _Decoded(
            pair,
            {name: self._pixels(pictures, transform) for name, transform in self.transforms.items()},
            _deviation(pictures[1:]) if pair.diversity and self.samples > 1 else None,
            _scenes(pictures) if self.scenes else None,
        )

    def _pixels(self, pictures: Sequence[Image.Image], transform: Preprocess) -> Tensor:
        return torch.stack([transform.pixels(picture) for picture in pictures[: 1 + self.samples]])


def _deviation(views: Sequence[Image.Image]) -> float:
    return float(measures.pixel_deviation(np.stack([np.asarray(view) for view in views])[None])[0])


def _scenes(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture.resize((SCENE, SCENE), Image.Resampling.BICUBIC)) for picture in pictures])


def _collate(items: Sequence[_Decoded | _Unreadable | str]) -> _Batch | str:
    """A batch; the first error, if any, stands for it."""
    for item in items:
        if isinstance(item, str):
            return item
    decoded = [item for item in items if isinstance(item, _Decoded)]
    names = decoded[0].pixels if decoded else ()
    return _Batch(
        decoded=[replace(item, pixels={}) for item in decoded],
        pixels={name: torch.cat([item.pixels[name] for item in decoded]) for name in names},
        unreadable=[item for item in items if isinstance(item, _Unreadable)],
    )


def measured(
    pairs: Sequence[Pair],
    reader: Reader,
    encoders: Mapping[str, LoadedEncoder],
    *,
    scenes: bool,
    batch_size: int,
    workers: int,
) -> list[Measured]:
    """What is measured of pairs, in their order; those whose original cannot be read are left out, with a warning.

    Args:
        pairs: one at least.
        reader: of originals and views.
        encoders: by name, one at least, on one device.
        scenes: also keep what the judge of drawn scenes takes.
        batch_size: images that are encoded at once.
        workers: processes that decode; 0: decode between the encoders' batches.

    Raises:
        GenviewError: a view cannot be read.
    """
    samples = min(len(pair.views) for pair in pairs)
    each = max(1, batch_size // (1 + samples))
    transforms = {name: encoder.transform for name, encoder in encoders.items()}
    device = next(iter(encoders.values())).device
    batches = loading.loader(_Pictures(pairs, reader, transforms, samples, scenes), each, workers, collate_fn=_collate)
    work = [encoder.operations for encoder in encoders.values()]
    peak = next(iter(encoders.values())).peak
    pixels = usage.reading(loading.ahead(batches, device), None if None in work else sum(filter(None, work)), peak)
    found = []
    for batch in progress.track(pixels, "audit", total=len(batches), unit="batch"):
        for left_out in batch.unreadable:
            logger.warning("%s is left out of the audit: %s", left_out.pair.key, left_out.why)
        vectors = {
            name: _encoded(encoders[name], images, each * (1 + samples)).reshape(len(batch.decoded), 1 + samples, -1)
            for name, images in batch.pixels.items()
        }
        for place, item in enumerate(batch.decoded):
            own = {name: values[place] for name, values in vectors.items()}
            found.append(Measured(item.pair, own, item.deviation, item.scenes))
    return found


@torch.inference_mode()
def _encoded(encoder: LoadedEncoder, images: Tensor, batch_size: int) -> np.ndarray:
    return loader.encode_padded(encoder, images, batch_size)[1].cpu().numpy()
