"""Stage ``retrieval``: image-text retrieval with clip_benchmark's metric, one JSON per run and dataset."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from clip_benchmark.datasets.builder import image_captions_collate_fn
from clip_benchmark.metrics import zeroshot_retrieval
from torch.utils.data import Dataset as Items

from genview import atomic
from genview import device as devices
from genview.errors import GenviewError
from genview.evaluation import accuracy, frozen
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


def run(
    request: Request,
    *,
    model: str | Path,
    recall_at: Sequence[int],
    batch_size: int,
    workers: int,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Retrieve images by caption and captions by image on the test part, and write the result.

    Raises:
        GenviewError: the dataset or model is missing, has no text, or is smaller than a rank that is asked for.
    """
    encoder = frozen.load(model, layer="embedding", device=devices.default(), text=True)
    dataset = request.load("retrieval")
    part = captioned_part(dataset.test, request.name)
    items = Captioned(part, encoder.transform)
    if len(items) < max(recall_at):
        raise GenviewError(
            f"dataset {request.name}: recall at {max(recall_at)} needs as many images, there are {len(items)}"
        )
    counts = {"image": sum(len(part.captions[index]) for index in range(len(part))), "text": len(part)}
    loader = torch.utils.data.DataLoader(
        items, batch_size=batch_size, num_workers=workers, collate_fn=image_captions_collate_fn
    )
    metrics = zeroshot_retrieval.evaluate(
        encoder.model, loader, encoder.tokenizer, encoder.device.type, amp=False, recall_k_list=list(recall_at)
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
    atomic.write_json(output, result)
