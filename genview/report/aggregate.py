"""Means over datasets: by task and group of datasets, plain and as a share of the way from chance to 100 %.

A mean is over a list of datasets, which is part of its name: means over other lists are never compared. Its interval
comes from resampling the test images of each dataset by itself.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genview import provenance
from genview.evaluation import accuracy, groups, outcomes
from genview.evaluation.catalogue import file_name
from genview.evaluation.outcomes import Difference
from genview.report.results import Results
from genview.report.summary import Measurement

TASK = "aggregate"
TASKS = ("probes", "zeroshot", "retrieval")
MEAN, ABOVE_CHANCE = "mean", "mean_above_chance"
ALL = "all"

_read = cache(outcomes.read)


class Member(NamedTuple):
    """What one dataset gives to a mean."""

    dataset: str
    metrics: tuple[str, ...]
    """The dataset's own metric; of retrieval the smallest recall, both ways."""
    values: tuple[float, ...]
    chances: tuple[float, ...]
    file: Path
    """Outcomes of its test images."""
    count: int


def chance(record: Mapping[str, Any], metric: str) -> float | None:
    """What guessing reaches, where the record says among how many."""
    if record.get("chance") is not None:
        return record["chance"]
    classes, images = record.get("classes"), (record.get("split") or {}).get("images")
    if "_recall_at_" in metric:
        return min(1.0, int(metric.rsplit("_", 1)[1]) / images) if images else None
    if classes is None:
        return None
    number = classes if isinstance(classes, int) else len(classes)
    return min(1.0, (5 if metric.endswith("top5") else 1) / number)


def _member(results: Results, task: str, run: str, dataset: str, record: Mapping[str, Any]) -> Member | None:
    rows = {row["metric"]: row for row in record["results"] if row.get("value") is not None}
    recalls = sorted((name for name in rows if "_recall_at_" in name), key=lambda name: int(name.rpartition("_")[2]))
    names = tuple(recalls[:2]) if task == groups.RETRIEVAL else (record.get("metric", ""),)
    chances = [chance(record, name) for name in names]
    if not names or any(name not in rows for name in names) or None in chances:
        return None
    file = results.folder / task / run / f"{file_name(dataset)}.parquet"
    count = sum(rows[name].get("count") or 0 for name in names)
    found = tuple(value for value in chances if value is not None)
    return Member(dataset, names, tuple(float(rows[name]["value"]) for name in names), found, file, count)


def members(results: Results) -> dict[tuple[str, str, str], list[Member]]:
    """The datasets of each mean, by run, task and group; a group of one dataset has none."""
    found: dict[tuple[str, str, str], list[Member]] = {}
    for (task, run, dataset), record in results.evaluations().items():
        if task in TASKS and (member := _member(results, task, run, dataset, record)):
            for group in dict.fromkeys((ALL, groups.of(dataset, task))):
                found.setdefault((run, task, group), []).append(member)
    alone = {key for key, parts in found.items() if len(parts) < 2}
    # A group that holds everything says nothing that the whole does not.
    same = {key for key, parts in found.items() if key[2] != ALL and len(parts) == len(found[*key[:2], ALL])}
    return {key: parts for key, parts in found.items() if key not in alone | same}


def name_of(task: str, group: str, parts: list[Member]) -> str:
    """The name of a mean: task, group, and the list that it is over."""
    return f"{task}, {group}: {', '.join(part.dataset for part in parts)}"


def _scaled(metric: str, value: float | np.ndarray, guessing: float, of_difference: bool) -> Any:
    if metric == MEAN:
        return value
    return (value - (0 if of_difference else guessing)) / (1 - guessing)


def _combined(metric: str, parts: list[Member], values: list[list[Any]], of_difference: bool = False) -> Any:
    """The mean over datasets of the means over each one's metrics, of numbers or of arrays of resamples."""
    each = [
        np.mean([_scaled(metric, v, c, of_difference) for v, c in zip(mine, part.chances)], axis=0)
        for part, mine in zip(parts, values)
    ]
    return np.mean(each, axis=0)


def _resamples(part: Member, other: Member | None = None) -> list[np.ndarray] | None:
    """Resampled values of each metric of a dataset, or of the difference from another model to this one."""
    tables = [_read(each.file) for each in (part, other) if each is not None]
    if any(table is None for table in tables):
        return None
    seed = int(provenance.digest(part.dataset)[:8], 16)
    found = [_resampled(tables, metric, seed) for metric in part.metrics]
    return None if any(values is None for values in found) else [values for values in found if values is not None]


def _resampled(tables: list[pa.Table | None], metric: str, seed: int) -> np.ndarray | None:
    present = [table for table in tables if table is not None]
    return outcomes.resampled(present[0], metric, before=present[1] if len(present) > 1 else None, seed=seed)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    return float(low), float(high)


def measurements(results: Results) -> list[Measurement]:
    """Every mean of a study, in the order of its runs; ``count`` is the number of datasets."""
    rows = []
    for (run, task, group), parts in members(results).items():
        drawn = [_resamples(part) for part in parts]
        for metric in (MEAN, ABOVE_CHANCE):
            value = float(_combined(metric, parts, [list(part.values) for part in parts]))
            low = high = None
            if all(values is not None for values in drawn):
                low, high = _interval(_combined(metric, parts, [values or [] for values in drawn]))
            name = name_of(task, group, parts)
            rows.append(
                Measurement(results.configuration["study"], run, TASK, name, metric, value, low, high, len(parts))
            )
    return rows


def difference(first: Results, second: Results, one: Measurement, other: Measurement) -> Difference | None:
    """The second mean minus the first over the same datasets, where all keep what was said of each test image."""
    if (one.dataset, one.metric) != (other.dataset, other.metric):
        return None
    task, _, rest = one.dataset.partition(", ")
    group = rest.partition(":")[0]
    before = members(first).get((one.run, task, group), [])
    after = members(second).get((other.run, task, group), [])
    drawn = [_resamples(new, old) for new, old in zip(after, before)]
    if len(before) != len(after) or not drawn or any(values is None for values in drawn):
        return None
    low, high = _interval(_combined(one.metric, after, [values or [] for values in drawn], of_difference=True))
    return Difference(other.value - one.value, low, high, sum(part.count for part in after))
