"""Checks of the datasets that models are tested on."""

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from genview import words
from genview.config.study import Study
from genview.evaluation import catalogue
from genview.preflight.problem import Problem

TASKS = ("probe", "zeroshot", "retrieval", "finetune")
"""Blocks of the evaluation that name datasets."""

CLIP_BENCHMARK_PREFIXES = ("wds/", "vtab/", "tfds/", "sugar_crepe")


def datasets(study: Study) -> Iterator[Problem]:
    """Names that nobody knows, and datasets that are not there and will not be downloaded."""
    block = study.evaluation
    asked = [(name, task) for task in TASKS for name in getattr(block, task).datasets]
    looked_for: set[str] = set()
    for name, task in asked:
        local = block.datasets.get(name)
        if local is not None:
            if local.kind in ("image_folder", "table") and not (local.path and Path(local.path).exists()):
                yield Problem("evaluation", f"evaluation.datasets.{name}.path: {local.path} does not exist")
            continue
        if task == "retrieval" or (task == "zeroshot" and name not in catalogue.ENTRIES):
            if wrong := _third_party(name, study, task):
                yield Problem("evaluation", f"evaluation.{task}.datasets: {wrong}")
            continue
        if name not in catalogue.ENTRIES:
            known = sorted({*catalogue.ENTRIES, *block.datasets})
            text = f"no dataset {name!r}{words.nearest(name, known) or '.'} There are {', '.join(known)}"
            yield Problem("evaluation", f"evaluation.{task}.datasets: {text}")
            continue
        if name in looked_for:
            continue
        entry, place = catalogue.find(name), catalogue.location(name, block.root)
        looked_for.add(name)
        if place is not None and not place.exists() and not (block.download and entry.downloadable):
            hint = "; or set evaluation.download" if entry.downloadable else ""
            yield Problem("evaluation", f"evaluation.{task}.datasets: {name} is not at {place}{hint}")


def _third_party(name: str, study: Study, task: str) -> str | None:
    """What is wrong with a dataset that only clip_benchmark may know."""
    known = {*_clip_benchmark_names(), *study.evaluation.datasets}
    if task == "zeroshot":
        known |= catalogue.ENTRIES.keys()
    if name not in known and not name.startswith(CLIP_BENCHMARK_PREFIXES):
        return f"no dataset {name!r}{words.nearest(name, known) or '.'} There are {', '.join(sorted(known))}"
    folder = Path(study.evaluation.root) / name.removeprefix("wds/").replace("/", "_")
    if not folder.exists() and not study.evaluation.download:
        return f"{name} is not at {folder}; or set evaluation.download"
    return None


@cache
def _clip_benchmark_names() -> frozenset[str]:
    """The datasets that clip_benchmark builds by name, read from its source: it keeps no list, and imports torch."""
    package = importlib.util.find_spec("clip_benchmark").submodule_search_locations[0]
    source = Path(package, "datasets/builder.py").read_text(encoding="utf-8").split("\ndef ")[1]
    return frozenset(re.findall(r"dataset_name == [\"']([^\"']+)[\"']", source)) - {"dummy"}
