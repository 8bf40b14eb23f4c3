"""Stage ``zeroshot``: zero-shot classification with clip_benchmark's classifier, one JSON per run and dataset."""

from pathlib import Path

import numpy as np
import torch
from clip_benchmark.metrics import zeroshot_classification
from torch.utils.data import Dataset as Items

from genview import atomic, loading, parquet, placement, tables
from genview.evaluation import accuracy, frozen, outcomes, prompts
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part

BOOTSTRAPS = 1000


class Labelled(Items):
    """A part of a dataset as clip_benchmark wants it: (transformed image, label), with ``classes``."""

    templates: list[str]
    """Set where the dataset is exported with its templates."""

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
    images: str | Path | None = None,
    stamp: dict[str, str],
) -> None:
    """Classify the test part of a dataset by the names of its classes and write the result.

    Args:
        request: the dataset.
        model: of a run, or the settings of an encoder (`frozen.load`).
        batch_size: images at once; workers: loader processes.
        output: the result.
        images: where the outcome of each test image goes, if anywhere.
        stamp: of the stage.

    Raises:
        GenviewError: the dataset or model is missing, or the model has no text tower.
    """
    encoder = frozen.load(model, layer="embedding", device=placement.default(), text=True)
    dataset = request.load("zeroshot")
    classes, templates = prompts.class_names(dataset), prompts.templates(dataset)
    items = Labelled(dataset.test, encoder.transform.pixels, classes)
    device = encoder.device.type
    classifier = zeroshot_classification.zero_shot_classifier(
        encoder.model, encoder.tokenizer, classes, templates, device, amp=False
    )
    batches = encoder.prepared(loading.loader(items, batch_size, workers))
    logits, target = zeroshot_classification.run_classification(encoder.model, classifier, batches, device, amp=False)
    scores, labels = logits.numpy(), target.numpy().astype(np.int64)
    rows = accuracy.results(scores, labels, bootstraps=BOOTSTRAPS, seed=request.seed)
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
    if images:
        columns = {
            "key": [dataset.test.name_of(index) for index in range(len(labels))],
            "label": labels,
            "prediction": outcomes.predicted(scores, labels),
            "neighbours": [None] * len(labels),
        }
        parquet.write(columns, tables.OUTCOMES, images, **stamp)
    atomic.write_json(output, result)
