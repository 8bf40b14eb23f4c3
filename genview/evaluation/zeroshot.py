"""Stage ``zeroshot``: zero-shot classification with clip_benchmark's classifier, one JSON per run and dataset."""

from pathlib import Path

import numpy as np
import torch
from clip_benchmark.metrics import zeroshot_classification
from torch.utils.data import Dataset as Items

from genview import atomic
from genview import device as devices
from genview.evaluation import accuracy, frozen, prompts
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part

BOOTSTRAPS = 1000


class Labelled(Items):
    """A part of a dataset as clip_benchmark wants it: (transformed image, label), with ``classes``."""

    def __init__(self, part: Part, transform, classes: list[str]):
        self.part, self.transform, self.classes = part, transform, classes

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.part.image(index)), int(self.part.labels[index])


def run(
    request: Request,
    *,
    model: str | Path,
    batch_size: int,
    workers: int,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Classify the test part of a dataset by the names of its classes and write the result.

    Raises:
        GenviewError: the dataset or model is missing, or the model has no text tower.
    """
    encoder = frozen.load(model, layer="embedding", device=devices.default(), text=True)
    dataset = request.load("zeroshot")
    classes, templates = prompts.class_names(dataset), prompts.templates(dataset)
    items = Labelled(dataset.test, encoder.transform, classes)
    device = encoder.device.type
    loader = torch.utils.data.DataLoader(items, batch_size=batch_size, num_workers=workers)
    classifier = zeroshot_classification.zero_shot_classifier(
        encoder.model, encoder.tokenizer, classes, templates, device, amp=False
    )
    logits, target = zeroshot_classification.run_classification(encoder.model, classifier, loader, device, amp=False)
    rows = accuracy.results(logits.numpy(), target.numpy().astype(np.int64), bootstraps=BOOTSTRAPS, seed=request.seed)
    result = {
        "dataset": request.name,
        "metric": dataset.metric,
        "classes": classes,
        "templates": templates,
        "results": rows,
        "interval": f"95 %, percentiles of {BOOTSTRAPS} resamples of the test images",
        "split": {"test": len(target)},
        "split_rule": dataset.split_rule,
        "model_digest": encoder.digest,
        "provenance": stamp,
    }
    atomic.write_json(output, result)
