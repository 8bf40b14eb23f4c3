"""Class names and templates of zero-shot classification: clip_benchmark's lists for the datasets that it knows."""

import json
from functools import cache
from importlib import resources

from genview.evaluation import catalogue
from genview.evaluation.splits import LabelledDataset


@cache
def _shipped(what: str) -> dict[str, list[str]]:
    text = resources.files("clip_benchmark.datasets").joinpath(f"en_{what}.json").read_text(encoding="utf-8")
    return json.loads(text)


def class_names(dataset: LabelledDataset) -> list[str]:
    """Names as they stand in prompts, in the order of the labels.

    Raises:
        ValueError: clip_benchmark's list is not as long as the dataset's.
    """
    if dataset.names_as_written:
        return list(dataset.classes)
    own = [name.replace("_", " ").replace("/", " ") for name in dataset.classes]
    entry = catalogue.ENTRIES.get(dataset.name)
    known = _shipped("classnames").get(entry.prompts) if entry and entry.prompts else None
    if known is None or dataset.name == "in100":
        return _in100(dataset) if dataset.name == "in100" else own
    if dataset.name == "caltech101":
        known = known[1:]  # its first class is the background folder, which torchvision leaves out
    if len(known) != len(own):
        raise ValueError(f"{dataset.name}: {len(own)} classes, but clip_benchmark names {len(known)}")
    return known


def _in100(dataset: LabelledDataset) -> list[str]:
    return [name.split(",")[0] for name in dataset.classes]


def templates(dataset: LabelledDataset) -> list[str]:
    """Templates with ``{c}`` for the class name: the dataset's own, else clip_benchmark's."""
    if dataset.templates:
        return list(dataset.templates)
    return list(_shipped("zeroshot_classification_templates")[catalogue.find(dataset.name).prompts])
