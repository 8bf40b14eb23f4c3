"""The training data: a map-style dataset over references, and the order in which it is read.

Index = (epoch, row). What an index gives depends on nothing else, so that a run can go on in the middle of an epoch
and any number of loader processes reads the same data.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genview import loading, process, randomness
from genview.config.augmentation import RunData
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.training.data import composition
from genview.training.data.augment import Augment
from genview.training.data.batch import Batch, Crops
from genview.training.data.develop import Developer, union
from genview.training.data.precomputed import PrecomputedQuality
from genview.training.data.views import ViewIndex


@dataclass(frozen=True)
class Form:
    """What a view looks like to the model.

    Attributes:
        image_size: side in pixels, of views whose settings state none.
        mean, std: three floats each.
        clean: keep the crops before their colours changed, too.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    clean: bool = False


class Samples(Dataset):
    """A sample = the views of one original, its caption, and what was precomputed about it.

    Args:
        manifest: a row for each original: key, path, offset, length, caption.
        reader: of the originals.
        views: of each view set, where its images are.
        data: which views a sample has.
        form: how they look.
        seed: of the run.
        tokenizer: of the captions; None: they are not used.
        quality: precomputed features; None: they are not used.

    Attributes:
        sizes: sides of the views in pixels, in the order of the groups.
        groups: numbers of the views of each size.
    """

    def __init__(
        self,
        manifest: pa.Table,
        reader: Reader,
        views: dict[str, ViewIndex],
        data: RunData,
        form: Form,
        *,
        seed: int,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        quality: PrecomputedQuality | None = None,
    ):
        self.manifest, self.reader, self.views, self.data = manifest, reader, views, data
        self.seed, self.tokenizer, self.quality = seed, tokenizer, quality
        settings = composition.augmentations(data)
        made: dict[int, Augment] = {}
        self._augments = [made.setdefault(id(one), Augment(one, one.image_size or form.image_size)) for one in settings]
        self.sizes = list(dict.fromkeys(augment.size for augment in self._augments))
        self.groups = [
            tuple(view for view, augment in enumerate(self._augments) if augment.size == size) for size in self.sizes
        ]
        self._developers = [
            Developer(union([self._augments[view].steps for view in views]), form.mean, form.std, clean=form.clean)
            for views in self.groups
        ]

    def __len__(self) -> int:
        return len(self.manifest)

    def _original(self, row: int, seeds: Sequence[int]):
        path, offset, length = (self.manifest[name][row].as_py() for name in ("path", "offset", "length"))
        if not self.data.fast_decode:
            return self.reader.image(path, offset, length)

        def least(width: int, height: int) -> int:
            crops = zip(self._augments, seeds, strict=True)
            return max(augment.least(width, height, seed) for augment, seed in crops)

        return self.reader.image(path, offset, length, least=least)

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        epoch, row = index
        key = self.manifest["key"][row].as_py()
        images: dict[Any, Any] = {}
        views, generated, fallbacks = [], [], 0
        slices = composition.compose(self.data, self.seed, epoch, key)
        for (source, draw, seed), augment in zip(slices, self._augments, strict=True):
            image = None
            if source is not composition.ORIGINAL:
                place = (source, draw)
                if place not in images:
                    images[place] = self.views[source].image(row, draw)
                image = images[place]
                fallbacks += image is None
            generated.append(image is not None)
            if image is None:
                if composition.ORIGINAL not in images:
                    images[composition.ORIGINAL] = self._original(row, [one.seed for one in slices])
                image = images[composition.ORIGINAL]
            views.append(augment(image, seed))
        return {
            "key": key,
            "views": views,
            "generated": generated,
            "caption": self.manifest["caption"][row].as_py() if self.tokenizer else None,
            "quality": self.quality[row] if self.quality else None,
            "fallbacks": fallbacks,
        }

    def _crops(self, samples: Sequence[dict[str, Any]], group: int) -> Crops:
        views = self.groups[group]
        pixels, numbers = (
            torch.stack([torch.stack([sample["views"][view][part] for sample in samples]) for view in views])
            for part in (0, 1)
        )
        generated = torch.tensor([[sample["generated"][view] for sample in samples] for view in views])
        return Crops(pixels, numbers, self._developers[group], views, generated)

    def collate(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """Samples to a batch, view-major, whose views are still to be developed."""
        quality = [sample["quality"] for sample in samples] if self.quality else None
        return Batch(
            keys=[sample["key"] for sample in samples],
            groups=tuple(self._crops(samples, group) for group in range(len(self.groups))),
            text=self.tokenizer([sample["caption"] for sample in samples]) if self.tokenizer else None,
            original_background=torch.stack([background for background, _ in quality]) if quality else None,
            caption_embedding=torch.stack([caption for _, caption in quality]) if quality else None,
            fallbacks=sum(sample["fallbacks"] for sample in samples),
        )


@dataclass(frozen=True)
class Order:
    """Which rows each process reads at each step: a permutation per epoch, cut into equal steps, the rest dropped.

    Attributes:
        rows: number of images.
        batch_size: samples per process and microbatch.
        accumulate: microbatches of a step.
        world_size: processes. A step's rows are the same for every split into processes of the same total.
        seed: of the permutations.
    """

    rows: int
    batch_size: int
    accumulate: int
    world_size: int
    seed: int

    def __post_init__(self):
        if self.steps_per_epoch == 0:
            raise GenviewError(
                f"a step takes {self.samples_per_step} samples (batch_size x accumulate x gpus_per_node x nodes), "
                f"but there are only {self.rows} images; make batch_size smaller"
            )

    @property
    def samples_per_step(self) -> int:
        """Samples of a step: of all processes and microbatches."""
        return self.batch_size * self.accumulate * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.rows // self.samples_per_step

    def batches(self, rank: int, first_step: int, last_step: int) -> Iterator[list[tuple[int, int]]]:
        """Indexes (epoch, row) of a process, a list for each microbatch, from one step up to another (not included)."""
        step = first_step
        while step < last_step:
            epoch, first = divmod(step, self.steps_per_epoch)
            generator = torch.Generator().manual_seed(randomness.seed("order of the epoch", self.seed, epoch))
            order = torch.randperm(self.rows, generator=generator)
            for within in range(first, min(self.steps_per_epoch, first + last_step - step)):
                for microbatch in range(self.accumulate):
                    start = within * self.samples_per_step + (microbatch * self.world_size + rank) * self.batch_size
                    yield [(epoch, row) for row in order[start : start + self.batch_size].tolist()]
                step += 1


class _Batches:
    """What the loader wants as a batch sampler."""

    def __init__(self, order: Order, rank: int, first_step: int, last_step: int):
        self._arguments = (rank, first_step, last_step)
        self._order = order

    def __iter__(self):
        return self._order.batches(*self._arguments)

    def __len__(self):
        _, first, last = self._arguments
        return (last - first) * self._order.accumulate


class _Developed:
    """Collate that also develops: without a GPU the loader's processes do both halves."""

    def __init__(self, samples: Samples):
        self._samples = samples

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        return self._samples.collate(samples).developed()


def loader(
    samples: Samples, order: Order, *, rank: int, first_step: int, last_step: int, workers: int, on_gpu: bool
) -> DataLoader:
    """Batches of one process for a range of steps; its workers live as long as it is read.

    Args:
        samples: the data.
        order: which rows a step has.
        rank: of the process.
        first_step, last_step: of the range; the last is not included.
        workers: loader processes; 0: load in this one.
        on_gpu: leave the second half of augmentation to ``Batch.developed``; what is sent is uint8, page-locked.
    """
    return DataLoader(
        samples,
        batch_sampler=_Batches(order, rank, first_step, last_step),
        collate_fn=loading.Shared(samples.collate if on_gpu else _Developed(samples)),
        num_workers=workers,
        pin_memory=on_gpu,
        prefetch_factor=4 if workers else None,
        worker_init_fn=process.ignore_warnings,  # a loader's end would stop the run before it has saved
    )
