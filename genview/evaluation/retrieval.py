"""Stage ``retrieval``: image-text retrieval with clip_benchmark's metric, one JSON per run and dataset."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.datasets.builder import image_captions_collate_fn
from clip_benchmark.metrics import zeroshot_retrieval
from torch.utils.data import Dataset as Items

from genview import atomic, loading, parquet, placement, tables
from genview.errors import GenviewError
from genview.evaluation import accuracy, frozen, outcomes
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part

logger = logging.getLogger("genview")


class Captioned(Items):
    """A part of a dataset as clip_benchmark wants it: (transformed image, list of captions)."""

    def __init__(self, part: Part, transform):
        self.part, self.transform = part, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, list[str]]:
        return self.transform(self.part.image(index)), list(self.part.captions[index])


def captioned_part(part: Part, name: str) -> Part:
    """The images of a part that have captions.

    Raises:
        GenviewError: none has.
    """
    captions = [()] * len(part) if part.captions is None else part.captions
    rows = [index for index in range(len(part)) if captions[index]]
    if not rows:
        raise GenviewError(f"dataset {name}: no test image has a caption; retrieval needs them (column prompt)")
    if len(rows) < len(part):
        logger.warning("dataset %s: %d of %d test images have no caption", name, len(part) - len(rows), len(part))
    return part.take(rows)


class _Recorded:
    """A model whose embeddings are kept: clip_benchmark gives shares, and no query's rank."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.images, self.texts = model, [], []

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.images.append(self.model.encode_image(images))
        return self.images[-1]

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        self.texts.append(self.model.encode_text(texts))
        return self.texts[-1]


def _ranks(part: Part, recorded: _Recorded) -> dict[str, Sequence[Any]]:
    """The columns of the table of ranks: a row for each image, then one for each caption."""
    both = (F.normalize(torch.cat(kept).float(), dim=-1) for kept in (recorded.images, recorded.texts))
    images, texts = (embeddings.cpu().numpy() for embeddings in both)
    image_of = np.repeat(np.arange(len(part)), [len(part.captions[index]) for index in range(len(part))])
    of_texts, of_images = outcomes.ranks(images, texts, image_of)
    names = [part.name_of(index) for index in range(len(part))]
    return {
        "key": [*names, *(names[image] for image in image_of)],
        "query": ["image"] * len(names) + ["text"] * len(of_texts),
        "rank": [*of_images.tolist(), *of_texts.tolist()],
    }


def run(
    request: Request,
    *,
    model: str | Path,
    recall_at: Sequence[int],
    batch_size: int,
    workers: int,
    output: str | Path,
    images: str | Path | None = None,
    stamp: dict[str, str],
) -> None:
    """Retrieve images by caption and captions by image on the test part, and write the result.

    Args:
        request: the dataset.
        model: of a run, or the settings of an encoder (`frozen.load`).
        recall_at: ranks.
        batch_size: images at once; workers: loader processes.
        output: the result.
        images: where the rank of the right answer to each query goes, if anywhere.
        stamp: of the stage.

    Raises:
        GenviewError: the dataset or model is missing, has no text, or is smaller than a rank that is asked for.
    """
    encoder = frozen.load(model, layer="embedding", device=placement.default(), text=True)
    dataset = request.load("retrieval")
    part = captioned_part(dataset.test, request.name)
    items = Captioned(part, encoder.transform.pixels)
    if len(items) < max(recall_at):
        raise GenviewError(
            f"dataset {request.name}: recall at {max(recall_at)} needs as many images, there are {len(items)}"
        )
    counts = {"image": sum(len(part.captions[index]) for index in range(len(part))), "text": len(part)}
    batches = loading.loader(items, batch_size, workers, collate_fn=image_captions_collate_fn)
    recorded = _Recorded(encoder.model)
    metrics = zeroshot_retrieval.evaluate(
        recorded,
        encoder.prepared(batches),
        encoder.tokenizer,
        encoder.device.type,
        amp=False,
        recall_k_list=list(recall_at),
    )
    rows = []
    for what, queries in counts.items():
        for k in recall_at:
            share = metrics[f"{what}_retrieval_recall@{k}"]
            rows.append(accuracy.row(f"{what}_recall_at_{k}", share, *accuracy.wilson(share, queries), queries))
    result = {
        "dataset": request.name,
        "metric": f"image_recall_at_{min(recall_at)}",
        "results": rows,
        "interval": "95 %, Wilson's score interval over the queries",
        "split": {"images": len(items), "captions": counts["image"]},
        "split_rule": dataset.split_rule,
        "model_digest": encoder.digest,
        "provenance": stamp,
    }
    if images:
        parquet.write(_ranks(part, recorded), tables.RANKS, images, **stamp)
    atomic.write_json(output, result)
