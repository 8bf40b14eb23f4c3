"""Differences between two models over the same test images, of one study or of two."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa

from genview import costs
from genview.evaluation import outcomes
from genview.evaluation.catalogue import file_name
from genview.evaluation.outcomes import Difference
from genview.report import aggregate, wording
from genview.report.blocks import Block, Cell, Table
from genview.report.results import Results
from genview.report.summary import Measurement

HOW = "paired bootstrap over the test images, 2,000 resamples"
"""The method, for people."""

GAIN_TASKS = ("probes", "zeroshot", "retrieval", "mmvp")
"""Tasks whose only data set stands for them in the table of gains."""

Finder = Callable[[Measurement, Measurement], Difference | None]

_read = cache(outcomes.read)


def kept(folder: Path, row: Measurement) -> pa.Table | None:
    """What was said of each test image behind a number; None: it was not kept."""
    return _read(folder / row.task / row.run / f"{file_name(row.dataset)}.parquet")


def between(first: Path, second: Path) -> Finder:
    """A function of two measurements, one of each folder of results: the second minus the first, where both keep
    what they said of the same test images.
    """

    @cache
    def find(one: Measurement, other: Measurement) -> Difference | None:
        if (one.task, one.dataset, one.metric) != (other.task, other.dataset, other.metric):
            return None
        tables = [kept(folder, row) for folder, row in ((first, one), (second, other))]
        if any(table is None for table in tables):
            return None
        return outcomes.difference(*tables, one.metric)

    return find


def of_studies(first: Results, second: Results) -> Finder:
    """The same for every measurement of two studies, means over datasets among them."""
    find = between(first.folder, second.folder)

    @cache
    def both(one: Measurement, other: Measurement) -> Difference | None:
        if one.task == other.task == aggregate.TASK:
            return aggregate.difference(first, second, one, other)
        return find(one, other)

    return both


def _hours(results: Results, run: str) -> float:
    """What the training took, all attempts, times its GPUs."""
    folder = results.folder
    return costs.hours(folder, folder / "logs/training" / run / "train.log", folder / "costs/training" / f"{run}.tsv")


def gains(results: Results, rows: list[Measurement], find: Finder, tasks: dict) -> list[Block]:
    """What each run that started from weights gained over them by task, what it kept, and what that took.

    Args:
        results: the study.
        rows: every measurement, means over datasets among them.
        find: pairs two of them (`of_studies`).
        tasks: folder of a task to its title and its short name.
    """
    body, records = [], results.evaluations()
    own = {key: record.get("metric") for key, record in records.items()}
    rows = [row for row in rows if own.get((row.task, row.run, row.dataset)) in (None, row.metric)]
    for run in results.configuration["runs"]:
        before = results.before(run)
        if before is None:
            continue
        hours = _hours(results, run)
        for name, (after, other) in _headline_pairs(rows, run, before, tasks).items():
            found, difference = find(other, after), after.value - other.value
            points = 100 * (found.value if found else difference)
            per_hour = f"{points / hours:+.1f}" if hours else "–"
            body.append(
                [
                    Cell(f"{run} − {before}", name),
                    wording.percent(other.value),
                    wording.percent(after.value),
                    Cell(*shown(found), found.clear and found.value > 0) if found else Cell(f"{points:+.1f}"),
                    f"{hours:.2f}",
                    per_hour,
                ]
            )
    if not body:
        return []
    columns = ["run", "before", "after", "difference", "hours", "points an hour"]
    caption = (
        "By task, the mean over its data sets where there are several (retrieval: the smallest recall, both ways). "
        f"Small print: 95 % interval, {HOW}. Hours of the training alone by the clock, all attempts, times its GPUs."
    )
    return [Table("Before and after", columns, body, caption, numeric=range(1, len(columns)))]


def _headline_pairs(
    rows: list[Measurement], run: str, before: str, tasks: dict
) -> dict[str, tuple[Measurement, Measurement]]:
    """For each task the measurement that stands for it, of the run and of what it started from."""
    of = {name: {(row.task, row.dataset, row.metric): row for row in rows if row.run == name} for name in (run, before)}
    shared = [key for key in of[run] if key in of[before]]
    found = {}
    for task, (_, short) in tasks.items():
        means = [
            key
            for key in shared
            if key[0] == aggregate.TASK and key[1].startswith(f"{task}, {aggregate.ALL}:") and key[2] == aggregate.MEAN
        ]
        single = [key for key in shared if key[0] == task]
        if means:
            found[f"{short}, mean over {of[run][means[0]].count} data sets"] = of[run][means[0]], of[before][means[0]]
        elif single and task in GAIN_TASKS:
            key = single[0]
            found[f"{short}, {key[1]}, {wording.title(key[2])}"] = of[run][key], of[before][key]
    return found


def shown(difference: Difference) -> tuple[str, str]:
    """A difference in points of a per cent, and its interval."""
    return f"{100 * difference.value:+.1f}", f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def table(results: Results, lines: dict[tuple[str, str, str], dict[str, Measurement]], tasks: dict) -> list[Block]:
    """Each run against what it started from, or else against the first run: one table, if anything can be paired."""
    find, runs = between(results.folder, results.folder), list(results.configuration["runs"])
    against = {run: results.before(run) or runs[0] for run in runs}
    against = {run: other for run, other in against.items() if other != run}
    body, used = [], set()
    for (task, dataset, metric), by_run in lines.items():
        cells = []
        for run, other in against.items():
            found = find(by_run[other], by_run[run]) if run in by_run and other in by_run else None
            used |= {run} if found else set()
            cells.append(Cell(*shown(found), found.clear and found.value > 0) if found else Cell("–"))
        if any(cell.text != "–" for cell in cells):
            body.append([Cell(dataset, f"{tasks[task][1]}, {wording.title(metric)}"), *cells])
    if not body:
        return []
    columns = ["dataset", *(f"{run} − {other}" for run, other in against.items())]
    caption = (
        "Points of a per cent: the run minus what it started from, or minus the study's first run. Small print: 95 % "
        f"interval of the difference, {HOW}. Marked: better, beyond that interval."
    )
    return [Table("Differences over the same test images", columns, body, caption, numeric=range(1, len(columns)))]
