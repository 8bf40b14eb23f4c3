"""Stage ``zeroshot``: zero-shot classification with clip_benchmark's classifier, one JSON per run and dataset."""

from pathlib import Path

import numpy as np
import torch
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_classification
from torch.utils.data import Dataset as Items

from genview import atomic
from genview.errors import GenviewError
from genview.evaluation import accuracy, catalogue, frozen, prompts
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


def third_party(request: Request, transform, task: str) -> Items:
    """A dataset that only clip_benchmark knows, at ``root/<name>``; ``wds/<name>`` for its WebDataset form.

    Raises:
        GenviewError: not there, or not known to clip_benchmark either.
    """
    name, download = request.name, request.download
    folder = Path(request.root) / name.removeprefix("wds/").replace("/", "_")
    # clip_benchmark starts downloads (kaggle, wget) of whatever is missing: only if the user said so.
    if not folder.exists() and not download:
        raise GenviewError(
            f"dataset {name}: {folder}: no such folder. It is not among {', '.join(sorted(catalogue.ENTRIES))}; if "
            "clip_benchmark knows it, put it there as clip_benchmark expects it, or set evaluation.download: true"
        )
    try:
        return build_dataset(name, root=str(folder), transform=transform, split="test", download=download, task=task)
    except (ValueError, AssertionError, RuntimeError, OSError) as error:
        raise GenviewError(f"dataset {name}: {folder}: {error}") from error


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
    encoder = frozen.load(model, layer="embedding", device=frozen.default_device(), text=True)
    if request.block is None and request.name not in catalogue.ENTRIES:
        items = third_party(request, encoder.transform, "zeroshot_classification")
        classes, templates, metric, rule = list(items.classes), items.templates, "top1", "clip_benchmark's test part"
    else:
        dataset = request.load()
        classes, templates = prompts.class_names(dataset), prompts.templates(dataset)
        items = Labelled(dataset.test, encoder.transform, classes)
        metric, rule = dataset.metric, dataset.split_rule
    device = encoder.device.type
    loader = torch.utils.data.DataLoader(items, batch_size=batch_size, num_workers=workers)
    classifier = zeroshot_classification.zero_shot_classifier(
        encoder.model, encoder.tokenizer, classes, templates, device, amp=False
    )
    logits, target = zeroshot_classification.run_classification(encoder.model, classifier, loader, device, amp=False)
    rows = accuracy.results(logits.numpy(), target.numpy().astype(np.int64), bootstraps=BOOTSTRAPS, seed=request.seed)
    result = {
        "dataset": request.name,
        "metric": metric,
        "classes": classes,
        "templates": templates,
        "results": rows,
        "interval": f"95 %, percentiles of {BOOTSTRAPS} resamples of the test images",
        "split": {"test": len(target)},
        "split_rule": rule,
        "model_digest": encoder.digest,
        "provenance": stamp,
    }
    atomic.write_json(output, result)
